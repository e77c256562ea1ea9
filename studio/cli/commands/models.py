"""Base models: what is known and here, downloads, own files, and what a file is."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from studio import models
from studio.basemodels.holdings import holding, removable, remove, words
from studio.cli.context import Context
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import existing, one_of, text
from studio.cli.watch import DETACH, say_failed, watch
from studio.files import human_size
from studio.modelfiles.kinds import WORDS

GROUP = "Settings and gates"
_PARTS = {"clip_l": "--clip-l", "clip_g": "--clip-g", "t5xxl": "--t5xxl", "ae": "--ae"}


def _models(ctx: Context, args: Namespace) -> Reply:
    rows: list[dict[str, Any]] = []
    for m in models.list_models(ctx.workspace):
        place = m.location(ctx.workspace)
        now = holding(ctx.workspace, m)
        rows.append(
            {
                **m.model_dump(mode="json"), "here": place is not None, "location": str(place or ""), "holding": now.as_dict(),
                "words": words(now), "download_bytes": m.download_bytes, "gated": m.gated,
            }
        )  # fmt: skip
    ctx.out.table(
        ["Id", "Title", "Family", "Resolution", "Here", "Download", "Licence"],
        [
            [
                r["id"],
                r["title"],
                r["family"],
                f"{r['resolution']} px",
                "yes" if r["here"] else r["words"] if r["holding"]["state"] != "absent" else "no",
                (human_size(r["download_bytes"]) + (", sign-in" if r["gated"] else "")) if r["download_bytes"] else "",
                r["licence"],
            ]
            for r in rows
        ],
    )  # fmt: skip
    return Reply({"models": rows})


def _add_model(ctx: Context, args: Namespace) -> Reply:
    parts = {p: Path(getattr(args, p)) for p in _PARTS if getattr(args, p)}
    entry = models.add_local_model(
        ctx.workspace, args.path, args.title or "", prediction=args.prediction or "", parts=parts
    )
    ctx.out.good(
        f"Added '{entry.id}': {WORDS.get(entry.family, f'a {entry.family} model')}. The file stays where it is."
    )
    found = models.file_findings(ctx.workspace, entry)
    ctx.out.findings(found)
    ctx.out.next(f'lora-studio new "My style" --kind style --base-model {entry.id}')
    return Reply(
        {"model": entry.model_dump(mode="json"), "findings": [f.model_dump(mode="json") for f in found]}
    )


def _forget_model(ctx: Context, args: Namespace) -> Reply:
    models.forget_local_model(ctx.workspace, args.id)
    ctx.out.good(f"'{args.id}' is off the list. Its files were not touched.")
    return Reply({"forgotten": args.id})


def _download(ctx: Context, args: Namespace) -> Reply:
    from studio.basemodels.download import start_download

    entry = models.get_model(ctx.workspace, args.id)
    now = holding(ctx.workspace, entry)
    if entry.files:
        ctx.out.say(f"{entry.title}: {human_size(now.bytes_left)} to download. Licence: {entry.licence}.")
    job = start_download(ctx.workspace, entry.id)
    data: dict[str, Any] = {"model": entry.id, "job": job.id, "bytes": now.bytes_left}
    if args.detach:
        ctx.out.next("lora-studio models list")
        return Reply(data)
    watched = watch(ctx.out, job)
    data["state"] = watched.state
    if watched.left:
        ctx.out.say("It goes on by itself. See: lora-studio models list")
        return Reply(data, code=130)
    if watched.state == "finished":
        ctx.out.good(f"{entry.title} is on this computer.")
        return Reply({**data, "result": job.result})
    return Reply({**data, **say_failed(ctx.out, job)}, code=1)


def _remove(ctx: Context, args: Namespace) -> Reply:
    entry = models.get_model(ctx.workspace, args.id)
    places = removable(ctx.workspace, entry) if entry.path is None else []
    if places:
        size = human_size(sum(p.stat().st_size for p in places))
        ctx.out.say(f"To the trash of the workspace: {', '.join(p.name for p in places)} ({size}).")
        if not ctx.agreed("Remove it?"):
            return Reply({"removed": []})
    moved = remove(ctx.workspace, entry.id)
    ctx.out.good(f"Removed. The files lie in {ctx.workspace.trash_dir}; their room is free when that is emptied.")  # fmt: skip
    return Reply({"removed": [str(p) for p in moved]})


def _inspect(ctx: Context, args: Namespace) -> Reply:
    """Say what a file is; a file that is no base model is an answer here, not a mistake."""
    from studio.modelfiles.checking import TRAINABLE, base_model
    from studio.modelfiles.kinds import look

    found = base_model(args.path) if args.path.is_dir() else look(args.path)
    facts: list[tuple[str, object]] = [("It is", found.words)]
    if found.kind == "base":
        told = "as its file says" if found.sure else "as usual for its family; the file does not say"
        facts += [("Predicts", f"{found.prediction} ({told})"), ("Can be trained here", "yes" if found.family in TRAINABLE else "no")]  # fmt: skip
    if found.parameters:
        facts += [("Numbers", f"{found.parameters:,}"), ("Precision", found.precision)]
    ctx.out.facts(facts)
    return Reply({"path": str(args.path), "words": found.words, **vars(found)})


COMMANDS = (
    Command(
        "models list",
        GROUP,
        "List the base models and whether they are on this computer.",
        _models,
        project=False,
    ),
    Command(
        "models download",
        GROUP,
        "Download a base model and all files that go with it; goes on where an earlier download stopped.",
        _download,
        words=(Word("ID", "The base model's id.", required=True, convert=text(80)),),
        options=(DETACH,),
        details="Each file is used only when its hash is right. Models whose makers ask for a sign-in need the secret HF_TOKEN.",
        examples=("models download sdxl", "models download flux-dev --detach"),
        project=False,
    ),
    Command(
        "models add",
        GROUP,
        "Add a base model that you have; the file stays where it is.",
        _add_model,
        words=(
            Word("PATH", "A .safetensors checkpoint or a diffusers folder.", required=True, convert=existing),
        ),
        options=(
            Option("--title", "How to call it.", metavar="TEXT", convert=text(80)),
            Option("--prediction", "What it predicts, when the file does not say: epsilon or v_prediction.", metavar="WHAT",
                   convert=one_of(["epsilon", "v_prediction"])),
            *(
                Option(flag, f"Its {part}, for SD3.5 and FLUX; otherwise looked for beside it.", metavar="FILE", convert=existing)
                for part, flag in _PARTS.items()
            ),
        ),
        details="Which family it is, is read from the file. LoRAs, parts of models, pickle files and broken downloads are refused.",
        examples=("models add ~/models/sd15.safetensors", "models add flux.safetensors --t5xxl ~/encoders/t5xxl_fp16.safetensors"),
        project=False,
    ),
    Command(
        "models forget",
        GROUP,
        "Take a base model that you added off the list; its files stay.",
        _forget_model,
        words=(Word("ID", "The base model's id.", required=True, convert=text(80)),),
        project=False,
    ),
    Command(
        "models remove",
        GROUP,
        "Move a downloaded base model to the trash; parts that others use stay.",
        _remove,
        words=(Word("ID", "The base model's id.", required=True, convert=text(80)),),
        options=(YES,),
        examples=("models remove sdxl --yes",),
        project=False,
    ),
    Command(
        "models inspect",
        GROUP,
        "Say what a model file is, from its header: family, prediction, LoRA, part of a model.",
        _inspect,
        words=(Word("PATH", "A .safetensors file or a diffusers folder.", required=True, convert=existing),),
        examples=("models inspect downloads/model.safetensors",),
        project=False,
    ),
)  # fmt: skip
