"""Taking a dataset elsewhere."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from studio.cli.context import Context
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import Bad, one_of

GROUP = "Pictures and captions"


def _new_path(raw: str) -> Path:
    """The path of something that is to be made. Raises Bad."""
    if not raw.strip():
        raise Bad("It is empty.", "Give the path of a new folder, or of a new file that ends in .zip.")
    if "\x00" in raw:
        raise Bad("It is not a path that this computer knows.", "Check its spelling.")
    return Path(raw)


def _export(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.export import export_dataset

    project = ctx.project()
    with ctx.out.live() as line:
        report = export_dataset(
            project,
            args.target,
            layout=args.layout,
            own_repeats=args.own_repeats,
            progress=lambda done, total, name: line.update(
                f"{done} of {total}: {name}", done / max(1, total)
            ),
        )
    ctx.out.good(report.words)
    ctx.out.table(
        ["Folder", "Repeats", "Pictures", "Captions", "For"],
        [
            [
                p.folder,
                p.repeats,
                p.pictures,
                p.captions,
                "regularisation" if p.regularisation else "training",
            ]
            for p in report.parts
        ],
        right=(1, 2, 3),
    )
    if report.converted:
        count = len(report.converted)
        ctx.out.dim(
            f"{count} went as PNG or under another name, so that sd-scripts reads them as the studio does."
        )
    ctx.out.findings(report.left_out)
    return Reply({"project": project.slug, **report.as_dict()})


COMMANDS = (
    Command(
        "export-dataset",
        GROUP,
        "Write pictures and captions to a new folder or ZIP that kohya's sd-scripts trains on as it is.",
        _export,
        words=(
            Word(
                "TARGET", "A new folder, or a new file that ends in .zip.", required=True, convert=_new_path
            ),
        ),
        options=(
            Option(
                "--layout",
                "folders: repeats in the folders' names, such as 5_mirastyle; flat: in dataset.toml only.",
                metavar="LAYOUT",
                convert=one_of(("folders", "flat")),
                default="folders",
            ),
            Option(
                "--own-repeats",
                "Leave the setting 'repeats' out, so that importing it again gives the same repeats.",
            ),
        ),
        details="The originals are only read, and nothing that exists is written over. Pictures that sd-scripts could not "
        "read, or would show turned or without their transparency, go as PNG. A dataset.toml for --dataset_config lies beside.",
        examples=("export-dataset ~/mira", "export-dataset mira.zip --layout flat"),
    ),
)
