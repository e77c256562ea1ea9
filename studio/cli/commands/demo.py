"""The demo as a command."""

from __future__ import annotations

from argparse import Namespace

from studio.cli.context import Context
from studio.cli.spec import Command, Option, Reply
from studio.cli.values import text
from studio.files import human_time


def _demo(ctx: Context, args: Namespace) -> Reply:
    from studio.cli import demo

    ctx.out.say("From a folder of pictures to a registered LoRA, on this computer.")
    run = demo.start(ctx, args.fresh, args.preset)
    try:
        note = run.run()
    except demo.Stopped as stopped:
        ctx.out.say()
        ctx.out.say("`lora-studio demo` goes on from here.")
        return stopped.reply
    stages = {s["name"]: s for s in note["stages"]}
    trained, drawn, kept = stages["train"], stages["grid"], stages["register"]
    ctx.out.heading("Done")
    ctx.out.facts(
        [
            ("Project", note["folder"]),
            ("Loss", f"{trained['first_loss']:.4f} at first, {trained['loss']:.4f} at the end"),
            ("LoRA", kept["file"]),
            ("Contact sheet", drawn["sheet"]),
            ("Recommended weight", f"{kept['weight']:g}"),
            ("Took", human_time(note["seconds"])),
        ]
    )
    ctx.out.table(
        ["Stage", "Time"], [[s["title"], human_time(s["seconds"])] for s in note["stages"]], right=(1,)
    )
    ctx.out.next("look at the contact sheet, or open the project in the app: lora-studio app")
    return Reply(
        {
            **note,
            "loss": {"first": trained["first_loss"], "last": trained["loss"]},
            "sheet": drawn["sheet"],
            "recommended_weight": kept["weight"],
            "library": kept["library"],
        }
    )


COMMANDS = (
    Command(
        "demo",
        "Help",
        "The whole path on the sample pictures, a few minutes on two CPU cores.",
        _demo,
        options=(
            Option("--fresh", "Begin a new one, also when an earlier demo was stopped half-way."),
            Option(
                "--preset",
                "Settings to train with; the standard ones of the built-in model when left out.",
                metavar="ID",
                convert=text(80),
            ),
        ),
        details="Imports a folder with planted mistakes and shows gate 1 refusing it, mends them, imports the rest, passes "
        "the four gates, trains, draws the grid and registers the LoRA. Stop it whenever you like: the next call goes on "
        "where it was. What it did, with times, lies in demo.json in the project.",
        project=False,
    ),
)
