"""Settings as the config files of sd-scripts: train.toml, dataset.toml, and why each line says what it says.

Every key and value is checked against the list of options (see options.py) before it is written, so that nothing is
silently passed over. What the settings ask for and sd-scripts cannot do is a finding, and stops the config gate.

lines.py   train.toml, line by line
rules.py   what cannot be, in findings
extra.py   options that have no setting of their own
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from studio.errors import InputError
from studio.training.base import TrainingPlan
from studio.training.sdscripts import families, options
from studio.training.sdscripts.layout import Laid, laid_out
from studio.training.sdscripts.lines import OUTPUT, PROMPTS, Line, caches_text, train_lines
from studio.training.sdscripts.rules import check

__all__ = ["COMMAND", "DATASET", "EXPLAINED", "OUTPUT", "PROMPTS", "TOKENIZERS", "TRAIN", "Line", "caches_text", "check",
           "dataset_config", "native_files", "train_lines", "write"]  # fmt: skip

TRAIN, DATASET, EXPLAINED, COMMAND = "train.toml", "dataset.toml", "explained.md", "command.txt"
TOKENIZERS = "tokenizers"

_DATASET_WHY = {
    "caption_extension": "the text files beside the pictures; always written, since the script's own is .caption",
    "shuffle_caption": "Shuffle tags",
    "keep_tokens": "Tags kept in place; only with shuffling",
    "caption_dropout_rate": "Caption dropout; regularisation pictures keep theirs",
    "flip_aug": "Mirror pictures",
    "resolution": "Resolution",
    "batch_size": "Batch size",
    "enable_bucket": "Aspect ratio buckets",
    "bucket_reso_steps": "Bucket step",
    "bucket_no_upscale": "Never enlarge pictures",
    "min_bucket_reso": "the smallest side that a bucket may have, as in the preview",
    "max_bucket_reso": "the largest side that a bucket may have, as in the preview",
    "image_dir": "the project's pictures, laid out for this run",
    "num_repeats": "Repeats, times the pictures' own",
    "is_reg": "these are regularisation pictures",
}


def dataset_config(plan: TrainingPlan, laid: Sequence[Laid]) -> dict[str, Any]:
    """dataset.toml as data. It is strict about types: a whole number where a float is wanted is refused by sd-scripts."""
    s = plan.settings
    from studio.dataset.buckets import bucket_sizes  # the same smallest and largest side as the preview

    sides = [side for size in bucket_sizes(s.resolution, s.bucket_step) for side in size]
    return {
        "general": {
            "caption_extension": ".txt",
            "shuffle_caption": s.shuffle_captions,
            "keep_tokens": s.keep_tokens if s.shuffle_captions else 0,
            "caption_dropout_rate": float(s.caption_dropout),
            "flip_aug": s.flip,
        },
        "datasets": [
            {
                "resolution": s.resolution,
                "batch_size": s.batch_size,
                "enable_bucket": s.buckets,
                "bucket_reso_steps": s.bucket_step,
                "bucket_no_upscale": s.bucket_no_upscale,
                "min_bucket_reso": min(sides),
                "max_bucket_reso": max(sides),
                "subsets": [
                    {
                        "image_dir": str(p.folder),
                        "num_repeats": p.repeats,
                        **({"is_reg": True, "caption_dropout_rate": 0.0} if p.regularisation else {}),
                    }
                    for p in laid
                ],
            }
        ],
    }


def native_files(plan: TrainingPlan) -> dict[str, str]:
    """Every file that sd-scripts reads, name -> text, and each line in words. Writes nothing.

    Raises InputError, with every problem, when a line would not be understood by the script.
    """
    lines = train_lines(plan)
    config = {ln.option: ln.value for ln in lines}
    dataset = dataset_config(plan, laid_out(plan))
    bad = [*options.check(options.SCRIPTS[plan.family], config), *options.check_dataset(dataset)]
    if bad:
        raise InputError(
            "The config for sd-scripts would not be understood.",
            f"{len(bad)} of its lines do not fit the script: {', '.join(w for f in bad for w in f.where)}.",
            "Another version of sd-scripts is installed than the one the studio knows. Install that one.",
            bad,
        )
    told = {
        TRAIN: tomli_w.dumps(config),
        DATASET: tomli_w.dumps(dataset),
        COMMAND: command_words(plan),
        EXPLAINED: _explained(plan, lines, dataset),
    }
    if "sample_prompts" in config:
        told[PROMPTS] = "".join(f"{_one_prompt(plan, p)}\n" for p in plan.prompts)
    return told


def command_words(plan: TrainingPlan) -> str:
    """The command line in words, to start the script by hand beside these files. On a CPU `--cpu` is added to the launcher."""
    return (
        f"accelerate launch --num_processes 1 --num_machines 1 --mixed_precision {plan.settings.precision} --dynamo_backend no "
        f"{options.SCRIPTS[plan.family]}.py --config_file {TRAIN} --dataset_config {DATASET}\n"
    )


def _one_prompt(plan: TrainingPlan, prompt: str) -> str:
    """A line of the prompts file: the text, and its size, seed, steps and guidance as flags."""
    text = " ".join(prompt.split()).replace(" --", " - -")
    side = plan.settings.resolution
    return f"{text} --w {side} --h {side} --d {plan.settings.seed} {families.SAMPLE_FLAGS[plan.family]}"


def _explained(plan: TrainingPlan, lines: Sequence[Line], dataset: Mapping[str, Any]) -> str:
    rows = [f"| `{ln.option}` | {_shown(ln.value)} | {ln.why} |" for ln in lines]
    of_dataset = [
        f"| `{name}` | {_shown(value)} | {_DATASET_WHY[name]} |" for name, value in _dataset_rows(dataset)
    ]
    head = ["| option | value | why |", "|---|---|---|"]
    return "\n".join(
        [
            f"# {plan.output_name} for sd-scripts",
            "",
            f"Script: {options.SCRIPTS[plan.family]}.py. List of options: commit {options.commit()[:8]}.",
            "",
            f"## {TRAIN}",
            "",
            *head,
            *rows,
            "",
            f"## {DATASET}",
            "",
            *head,
            *of_dataset,
            "",
        ]
    )


def _dataset_rows(dataset: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every key of the dataset config once for each place where it stands, outer ones first."""
    found = list(dataset["general"].items())
    for one in dataset["datasets"]:
        found += [(k, v) for k, v in one.items() if k != "subsets"]
        for subset in one["subsets"]:
            found += list(subset.items())
    return found


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, str) and "/" in text:
        text = Path(text).name
    return text.replace("|", "\\|")


def write(plan: TrainingPlan, laid: Sequence[Laid]) -> dict[str, Path]:
    """Write the files into the run folder; their paths by name. laid: the folders, made before."""
    from studio import files

    told = native_files(plan)
    told[DATASET] = tomli_w.dumps(dataset_config(plan, laid))
    written = {}
    for name, text in told.items():
        written[name] = plan.run_folder / name
        files.write_text(written[name], text)
    return written
