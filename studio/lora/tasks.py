"""The tools for LoRA files as jobs: they read and write in a process of their own, can be stopped, and never change a source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from studio import files
from studio.errors import InputError
from studio.findings import Finding
from studio.jobs.job import list_jobs
from studio.jobs.launch import launch_call
from studio.lora.info import describe
from studio.workspace import Workspace

if TYPE_CHECKING:
    from studio.jobs.job import Job

KIND = "lora"
"""Kind of the jobs that are started here."""
TYPES = ("fp32", "fp16", "bf16")
MAX_RANK = 4096
MAX_SOURCES = 16
NumberType = Literal["fp32", "fp16", "bf16"]


def made_dir(workspace: Workspace) -> Path:
    """Where files that the tools make go when no place is named: `<workspace>/loras`."""
    return workspace.root / "loras"


def tool_jobs(workspace: Workspace) -> list[Job]:
    """Jobs of these tools, newest first."""
    return [j for j in list_jobs(workspace.root / "jobs") if j.spec.kind == KIND]


def request_of(job: Job) -> dict[str, Any]:
    """What a job of these tools was asked for: `tool`, `file` or `sources`, and its choices; {} when that is not known any more."""
    try:
        told = files.read_json(job.folder / "payload.json")
    except InputError:
        return {}
    return dict(told) if isinstance(told, dict) else {}


def start_check(workspace: Workspace, file: Path) -> Job:
    """Read every number of a file; the result is `CheckReport.as_dict()`. Raises InputError when it is no LoRA."""
    file = _source(file)
    return _start(workspace, "check", f"Check of {file.name}", {"file": str(file)})


def start_resize(
    workspace: Workspace,
    file: Path,
    rank: int,
    *,
    conv_rank: int | None = None,
    keep: float | None = None,
    type: NumberType | None = None,
    out: Path | None = None,
) -> Job:
    """A copy of a lower rank. keep: share of the change's norm to keep, above 0 to 1: each layer gets the smallest rank that does.

    The result names the file, its size, the ranks and the share kept. Raises InputError for a file that is no LoRA, a rank that
    makes nothing smaller, or a place that is taken.
    """
    file = _source(file)
    told = describe(file)
    problems = []
    if not 1 <= rank <= MAX_RANK or (conv_rank is not None and not 1 <= conv_rank <= MAX_RANK):
        problems.append(_problem("rank", f"A rank goes from 1 to {MAX_RANK}.", "Use one such as 16."))
    if keep is not None and not 0 < keep <= 1:
        problems.append(
            _problem("keep", "What is kept goes from above 0 to 1 (all).", "Use one such as 0.95.")
        )
    top = max(told.ranks, default=0)
    plain = set(told.kinds) <= {"LoRA", "LoCon"}
    if (
        not problems
        and plain
        and keep is None
        and type is None
        and rank >= top
        and (conv_rank or rank) >= top
    ):
        problems.append(
            _problem(
                "rank",
                f"{file.name} has rank {told.rank_words} already; a larger one adds nothing.",
                f"Use one below {top}." if top > 1 else "Nothing smaller exists; use it as it is.",
            )
        )
    _refuse("This LoRA cannot be resized.", problems)
    suffix = f"rank{rank}" if keep is None else f"keep{keep * 100:.0f}"
    target = free_target(workspace, out, f"{file.stem}-{suffix}", [file])
    payload = {
        "file": str(file),
        "rank": rank,
        "conv_rank": conv_rank,
        "keep": keep,
        "type": type,
        "out": str(target),
    }
    return _start(workspace, "resize", f"Resize of {file.name}", payload)


def start_merge(
    workspace: Workspace,
    sources: Sequence[tuple[Path, float]],
    *,
    rank: int | None = None,
    type: NumberType | None = None,
    out: Path | None = None,
) -> Job:
    """One file that does what `sources` (file, weight) do together.

    rank: None joins the factors: exact, the ranks add up; else the best approximation of that rank. Raises InputError with
    everything that is wrong.
    """
    problems = []
    if not 2 <= len(sources) <= MAX_SOURCES:
        problems.append(
            _problem("files", f"{len(sources)} files were named.", f"Name 2 to {MAX_SOURCES} LoRAs.")
        )
    found = [(_source(path), weight) for path, weight in sources]
    for path, weight in found:
        if not -4 <= weight <= 4 or weight == 0:
            problems.append(
                _problem("weight", f"{weight:g} is no weight for {path.name}.", "Use -4 to 4, not 0.")
            )
    if len({p for p, _ in found}) < len(found):
        problems.append(
            _problem("files", "A file is named twice.", "Name it once, with the sum of its weights.")
        )
    if rank is not None and not 1 <= rank <= MAX_RANK:
        problems.append(_problem("rank", f"A rank goes from 1 to {MAX_RANK}.", "Use one such as 32."))
    families = {p.name: describe(p).family for p, _ in found}
    known = {f for f in families.values() if f}
    if len(known) > 1:
        words = ", ".join(f"{n}: {f or 'unknown'}" for n, f in families.items())
        problems.append(
            _problem("files", f"They are for different base models ({words}).", "Merge LoRAs of one family.")
        )
    _refuse("These LoRAs cannot be merged.", problems)
    stem = "-".join(p.stem[:40] for p, _ in found[:3]) + ("-and-more" if len(found) > 3 else "")
    target = free_target(workspace, out, f"{stem}-merged", [p for p, _ in found])
    payload = {"sources": [[str(p), w] for p, w in found], "rank": rank, "type": type, "out": str(target)}
    return _start(workspace, "merge", f"Merge of {len(found)} LoRAs", payload)


def start_convert(
    workspace: Workspace,
    file: Path,
    *,
    names: Literal["kohya", "diffusers"] | None = None,
    type: NumberType | None = None,
    out: Path | None = None,
) -> Job:
    """A copy with other key names, another number format, or both. Raises InputError when neither is asked for."""
    file = _source(file)
    told = describe(file)
    problems = []
    if names is None and type is None:
        problems.append(
            _problem("names", "Neither names nor a number format was chosen.", "Choose at least one.")
        )
    if names is not None and names == told.naming:
        problems.append(
            _problem(
                "names",
                f"{file.name} has these names already.",
                "Choose the other ones, or only a number format.",
            )
        )
    if names is None and type is not None and set(told.types) == {type}:
        problems.append(_problem("type", f"{file.name} is {type} already.", "Choose another format."))
    _refuse("This LoRA cannot be converted.", problems)
    target = free_target(workspace, out, "-".join([file.stem, *(w for w in (names, type) if w)]), [file])
    return _start(
        workspace,
        "convert",
        f"Conversion of {file.name}",
        {"file": str(file), "names": names, "type": type, "out": str(target)},
    )


def _start(workspace: Workspace, tool: str, title: str, payload: dict[str, Any]) -> Job:
    folder = workspace.root / "jobs" / files.new_id(KIND)
    return launch_call(
        folder, f"studio.lora.workers.tools:{tool}_job", {"tool": tool, **payload}, kind=KIND, title=title
    )


def _source(path: Path) -> Path:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise InputError(f"There is no file at {path}.", "It was moved, or its name is spelled differently.", "Give the full path of a .safetensors file.")  # fmt: skip
    describe(path)
    return path


def free_target(workspace: Workspace, out: Path | None, stem: str, sources: Sequence[Path]) -> Path:
    """Where the result goes; a free name in `made_dir` when none is given. Raises InputError when the place is taken."""
    if out is None:
        folder, stem, n = made_dir(workspace), stem[:120], 1
        while (folder / f"{stem}{'' if n == 1 else f'-{n}'}.safetensors").exists():
            n += 1
        return folder / f"{stem}{'' if n == 1 else f'-{n}'}.safetensors"
    out = out.expanduser().absolute()
    if out.is_dir():
        out = out / f"{stem[:120]}.safetensors"
    if out.suffix.lower() != ".safetensors":
        raise InputError(f"{out.name} is no name for a LoRA.", "The studio writes .safetensors files only.", f"Use {out.stem}.safetensors.")  # fmt: skip
    if out.exists() or out.resolve() in {s.resolve() for s in sources}:
        raise InputError(f"{out} is there already.", "The studio overwrites nothing.", "Choose another name.")
    return out


def _problem(where: str, what: str, fix: str) -> Finding:
    return Finding(severity="block", code=f"lora-{where}", what=what, fix=fix, where=(where,))


def _refuse(what: str, problems: list[Finding]) -> None:
    if len(problems) == 1:
        raise InputError(what, problems[0].what, problems[0].fix)
    if problems:
        raise InputError(what, "There is more than one reason.", "Mend these first.", problems)
