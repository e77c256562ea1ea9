"""Logs of sd-scripts, explained."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from studio.cli.context import Context
from studio.cli.spec import Command, Reply, Word
from studio.cli.values import text
from studio.files import human_time

GROUP = "Runs"


def _explain(ctx: Context, args: Namespace) -> Reply:
    from studio.training.sdscripts.explain import explain, explain_job, explain_text

    if args.log == "-":
        told = explain_text(sys.stdin.buffer.read())
    else:
        path = Path(args.log).expanduser()
        told = explain_job(path) if (path / "job.json").is_file() else explain(path)
    ctx.out.heading(told.sentence)
    pace, loss = told.seconds_per_step, ""
    if told.last_loss is not None:
        loss = f"{told.last_loss:g}, at first {told.first_loss:g}"
    facts = {
        "Pictures with repeats": str(told.plan.get("pictures", "")),
        "Batch size": str(told.plan.get("batch_size", "")),
        "Epoch": f"{told.epoch} of {told.epochs}" if told.epochs else "",
        "Went on from step": str(told.resumed_at or ""),
        "Loss": loss,
        "A step took": human_time(pace) if pace and pace >= 1 else f"{pace:.2f} s" if pace else "",
        "Device": told.device,
        "Checkpoints": ", ".join(Path(p).name for p in told.saved),
    }
    ctx.out.facts([(k, v) for k, v in facts.items() if v])
    ctx.out.findings(told.findings)
    data = {"log": str(args.log), **told.as_dict()}
    if told.outcome != "failed":
        return Reply(data)
    first = told.findings[0]
    return Reply({**data, "what": first.what, "why": first.why, "fix": first.fix}, code=1)


COMMANDS = (
    Command(
        "explain",
        GROUP,
        "Say what happened in a training with sd-scripts, from its log.",
        _explain,
        words=(
            Word(
                "LOG",
                "A file with what the training printed, here or elsewhere; the folder of a run; - reads what is piped in.",
                required=True,
                convert=text(4000),
            ),
        ),
        details="It tells how far the training came, whether it succeeded and, if not, the cause, why and the fix. "
        "It ends with 1 when the training failed, whatever its own exit code was: sd-scripts ends with 0 after training on "
        "nothing.",
        examples=("explain train.log", "explain train.log --json", "explain - < train.log"),
        project=False,
    ),
)
