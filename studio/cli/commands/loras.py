"""Tools for LoRA files of any origin: look inside, check, resize, merge, convert."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.cli.commands.library import LEAVE_OUT
from studio.cli.context import Context
from studio.cli.parser import problem
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import Bad, lora_file, number, one_of, whole
from studio.cli.watch import say_failed, watch
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.jobs.job import Job

GROUP = "LoRA files"


def weighted(raw: str) -> tuple[Path, float]:
    """`FILE` or `FILE:WEIGHT`. Raises Bad."""
    name, colon, weight = raw.rpartition(":")
    if colon and name.lower().endswith(".safetensors"):
        return lora_file(name), number(-4, 4, 0.6)(weight)
    return lora_file(raw), 1.0


def _out(raw: str) -> Path:
    if not raw.strip() or "\x00" in raw:
        raise Bad("It is empty.", "Give the path of the file to write, ending in .safetensors.")
    return Path(raw).expanduser()


def _new_file(raw: str) -> Path:
    path = _out(raw)
    if path.suffix.lower() != ".safetensors":
        raise Bad(
            "It is no name for a LoRA.",
            f"End it in .safetensors, such as {path.stem or 'clean'}.safetensors.",
        )
    return path.absolute()


FILE = Word("FILE", "A LoRA file (.safetensors).", required=True, convert=lora_file)
OUT = Option(
    "--out",
    "File to write; the workspace's folder `loras` when left out. Nothing is overwritten.",
    metavar="FILE",
    convert=_out,
)
TYPE = Option(
    "--type",
    "Number format of the result; the source's when left out.",
    metavar="{fp32,fp16,bf16}",
    convert=one_of(("fp32", "fp16", "bf16")),
)


def _info(ctx: Context, args: Namespace) -> Reply:
    from studio.lora.info import PART_WORDS, describe
    from studio.lora.names import NAMING_WORDS

    told = describe(args.file)
    ctx.out.facts(
        [
            ("File", told.path.name),
            (
                "Kind",
                told.kind
                + (
                    f" ({', '.join(f'{n} {k}' for k, n in told.kinds.items())})"
                    if len(told.kinds) > 1
                    else ""
                ),
            ),
            ("Base model", told.family or "cannot be told"),
            ("Names", NAMING_WORDS[told.naming]),
            (
                "Layers",
                f"{told.layers} (" + ", ".join(f"{PART_WORDS[p]} {n}" for p, n in told.parts.items()) + ")",
            ),
            ("Rank", told.rank_words),
            ("Alpha", told.alpha_words),
            ("Numbers", f"{told.numbers:,}, {', '.join(told.types)}"),
            ("Size", files.human_size(told.size_bytes)),
            ("Trigger word", told.trigger),
            ("Trained", told.date[:10]),
            *told.trained.items(),
            ("Caption words", ", ".join(f"{w} ({n})" for w, n in list(told.words.items())[:12])),
        ]
    )
    return Reply({"lora": told.as_dict()})


def _follow(ctx: Context, job: Job) -> dict[str, Any] | None:
    """Wait for a tool's job; its result, or None after saying why there is none."""
    ended = watch(ctx.out, job)
    if ended.state == "finished":
        return dict(job.result or {})
    if not ended.left:
        say_failed(ctx.out, job)
    return None


def _reply(ctx: Context, job: Job, say: Any) -> Reply:
    result = _follow(ctx, job)
    if result is None:
        return Reply({"job": job.id, "state": job.state, "error": dict(job.error or {})}, 1)
    say(result)
    return Reply({"job": job.id, "state": job.state, "result": result})


def _check(ctx: Context, args: Namespace) -> Reply:
    from studio.lora.tasks import start_check

    def say(result: dict[str, Any]) -> None:
        ctx.out.findings([Finding.model_validate(f) for f in result["findings"]])

    return _reply(ctx, start_check(ctx.workspace, args.file), say)


def _made(ctx: Context, result: dict[str, Any], words: str) -> None:
    ctx.out.good(words)
    ctx.out.say(f"{result['file']} ({files.human_size(result['size_bytes'])})")


def _resize(ctx: Context, args: Namespace) -> Reply:
    from studio.lora.tasks import MAX_RANK, start_resize

    rank = args.rank or MAX_RANK
    job = start_resize(
        ctx.workspace, args.file, rank, conv_rank=args.conv_rank, keep=args.keep, type=args.type, out=args.out
    )

    def say(r: dict[str, Any]) -> None:
        low, high = r["rank_low"], r["rank_high"]
        _made(ctx, r, f"Rank {low if low == high else f'{low} to {high}'}: {r['kept']:.1%} of the change is kept, "
                      f"{r['size_bytes'] / max(1, r['was_bytes']):.0%} of the size.")  # fmt: skip
        for row in r["worst"][:3]:
            if row["kept"] < 0.999:
                ctx.out.dim(f"{row['layer']}: rank {row['rank']} of {row['was']}, {row['kept']:.1%} kept")

    return _reply(ctx, job, say)


def _merge(ctx: Context, args: Namespace) -> Reply:
    from studio.lora.tasks import start_merge

    job = start_merge(ctx.workspace, args.files, rank=args.rank, type=args.type, out=args.out)

    def say(r: dict[str, Any]) -> None:
        how = f"{r['kept']:.1%} of the sum is kept" if args.rank else "exact"
        rank = r["rank_low"] if r["rank_low"] == r["rank_high"] else f"{r['rank_low']} to {r['rank_high']}"
        _made(ctx, r, f"Merged into rank {rank}, {how}. Use it at weight 1.")

    return _reply(ctx, job, say)


def _convert(ctx: Context, args: Namespace) -> Reply:
    from studio.lora.tasks import start_convert

    job = start_convert(ctx.workspace, args.file, names=args.names, type=args.type, out=args.out)
    return _reply(ctx, job, lambda r: _made(ctx, r, "Converted."))


def _metadata(ctx: Context, args: Namespace) -> Reply:
    from studio.lora import privacy
    from studio.lora.file import metadata_of

    told = metadata_of(args.file)
    groups = privacy.remembered(ctx.workspace) if args.leave_out is None else args.leave_out
    found = privacy.changes(told, groups)
    for change in found:
        ctx.out.say(change.key)
        ctx.out.dim(f"  - {_short(change.before)}")
        ctx.out.dim(f"  + {_short(change.after) or 'left out'}")
    ctx.out.say(
        f"{len(found)} of {len(told)} text fields would tell something else."
        if found
        else "Nothing of it is in the file."
    )
    if args.remember:
        privacy.remember(ctx.workspace, groups)
    if args.out is not None:
        privacy.clean_copy(args.file, args.out, groups)
        ctx.out.good(f"Written: {args.out}. The tensors are the same, byte for byte.")
    return Reply(
        {"metadata": told, "leave_out": list(groups), "changes": [{"key": c.key, "before": c.before, "after": c.after} for c in found],
         "file": str(args.out) if args.out is not None else None}
    )  # fmt: skip


def _short(value: str) -> str:
    return value if len(value) <= 160 else f"{value[:150]}… ({len(value):,} characters)"


def _check_resize(args: Namespace) -> list[Finding]:
    if args.rank is None and args.keep is None:
        return [
            problem(
                "--rank or --keep is missing.",
                "A resize needs to know how small.",
                "Add --rank 16, or --keep 0.95.",
            )
        ]
    return []


def _check_convert(args: Namespace) -> list[Finding]:
    if args.names is None and args.type is None:
        return [
            problem(
                "--names or --type is missing.",
                "A conversion needs to know what to change.",
                "Add --names diffusers, or --type bf16.",
            )
        ]
    return []


COMMANDS = (
    Command("lora info", GROUP, "Look inside a LoRA file: kind, base model, rank, how it was trained.", _info, words=(FILE,),
            examples=("lora info ~/Downloads/style.safetensors",), project=False,
            details="Reads files of any trainer (LoRA, LoCon, LoHa, LoKr, DoRA and others) and runs nothing that is in them."),
    Command("lora metadata", GROUP, "Show the text fields of a LoRA file, and write a copy that tells less of its maker.", _metadata, words=(FILE,),
            options=(
                LEAVE_OUT,
                Option("--out", "File to write; only shown when left out.", metavar="FILE", convert=_new_file),
                Option("--remember", "Take this choice as the default from now on."),
            ), examples=("lora metadata style.safetensors --leave-out folders,paths,dates --out clean.safetensors",), project=False),
    Command("lora check", GROUP, "Look for broken numbers, dead layers and missing halves in a LoRA file.", _check, words=(FILE,),
            project=False),
    Command("lora resize", GROUP, "Make a smaller copy of a LoRA and say how much of it is kept.", _resize, words=(FILE,),
            options=(
                Option("--rank", "Highest rank of the copy.", metavar="N", convert=whole(1, 4096, 16)),
                Option("--conv-rank", "Highest rank of its convolutions; --rank when left out.", metavar="N", convert=whole(1, 4096, 8)),
                Option("--keep", "Share of each layer's change to keep; each gets the smallest rank that does.", metavar="SHARE",
                       convert=number(0.01, 1, 0.95)),
                TYPE, OUT,
            ), examples=("lora resize style.safetensors --rank 8", "lora resize style.safetensors --keep 0.95 --type fp16"),
            check=_check_resize, project=False,
            details="The copy holds the best approximation of each layer's change (singular values). LoHa and LoKr become LoRA."),
    Command("lora merge", GROUP, "Put several LoRAs into one file, each with its weight.", _merge,
            words=(Word("FILE:WEIGHT", "LoRA files; a colon and a number set the weight, 1 when left out.", required=True, many=True,
                        convert=weighted, dest_name="files"),),
            options=(Option("--rank", "Approximate with this rank; exact, with the ranks added up, when left out.", metavar="N",
                            convert=whole(1, 4096, 32)), TYPE, OUT),
            examples=("lora merge style.safetensors:0.7 face.safetensors:0.5",), project=False),
    Command("lora convert", GROUP, "Change the key names or the number format of a LoRA.", _convert, words=(FILE,),
            options=(Option("--names", "kohya: for ComfyUI, A1111, Forge and sd-scripts; diffusers: for diffusers and peft.",
                            metavar="{kohya,diffusers}", convert=one_of(("kohya", "diffusers"))), TYPE, OUT),
            examples=("lora convert style.safetensors --names diffusers --type fp16",), check=_check_convert, project=False),
)  # fmt: skip
