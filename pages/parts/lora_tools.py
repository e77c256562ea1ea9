"""Tools for LoRA files of any origin: look inside, check, resize, merge, convert, and what the metadata tells."""

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from pages.parts.context import workspace
from pages.parts.flash import act, say
from pages.parts.library_panels import chosen_file, privacy_choice
from pages.parts.lora_results import results
from pages.parts.next import primary
from pages.parts.page import caught, show_error
from pages.parts.words import plain
from studio.errors import StudioError
from studio.files import human_size
from studio.guidance import count_words
from studio.library.bring_in import FAMILY_WORDS
from studio.library.entry import LibraryEntry, list_library
from studio.lora import privacy, tasks
from studio.lora.file import metadata_of
from studio.lora.info import PART_WORDS, LoraInfo, describe
from studio.lora.names import NAMING_WORDS

TOOLS = {
    "info": "Look inside", "check": "Check", "resize": "Resize", "merge": "Merge", "convert": "Convert", "metadata": "Metadata",
}  # fmt: skip
AS_IT_IS = "As it is"
OTHER = "other"


def lora_tools() -> None:
    """Choose a file, then what to do with it. Results are new files; a source is only ever read."""
    file = _source()
    if file is None:
        st.caption(
            "Files of any trainer: LoRA, LoCon, LoHa, LoKr, DoRA and others. Nothing in them is run, and none is changed."
        )
        return
    try:
        told = describe(file)
    except StudioError as e:
        show_error(e)
        return
    st.markdown(f"{plain(file.name)}: **{told.kind}** for {FAMILY_WORDS.get(told.family, told.family)}, rank {told.rank_words}, "
                f"{human_size(told.size_bytes)}")  # fmt: skip
    tool = st.segmented_control("Tool", list(TOOLS), default="info", required=True, key="lora_tool", format_func=TOOLS.__getitem__,
                                persist_state="page") or "info"  # fmt: skip
    draw: dict[str, Callable[[Path, LoraInfo], None]] = {
        "info": _info, "check": _check, "resize": _resize, "merge": _merge, "convert": _convert, "metadata": _metadata,
    }  # fmt: skip
    with caught():
        draw[tool](file, told)
    if tool not in ("info", "metadata"):
        results(tool, file)


def _source() -> Path | None:
    """A file of the library, one that the tools made, or another."""
    ws = workspace()
    entries = [e for e in list_library(ws) if e.file(ws).is_file()]
    known: dict[str, str] = {str(e.file(ws)): _entry_words(e) for e in entries}
    known |= {str(p): f"{p.name} (made here)" for p in sorted(tasks.made_dir(ws).glob("*.safetensors"))}
    known[OTHER] = "Another file…"
    chosen = st.selectbox("LoRA", list(known), key="tool_file", format_func=known.__getitem__)
    return chosen_file("tool") if chosen == OTHER else Path(chosen)


def _entry_words(entry: LibraryEntry) -> str:
    return f"{entry.title} (library)"


def _info(file: Path, told: LoraInfo) -> None:
    rows = {
        "Kind": told.kind
        + (f" ({', '.join(f'{n} {k}' for k, n in told.kinds.items())})" if len(told.kinds) > 1 else ""),
        "Base model": FAMILY_WORDS.get(told.family, told.family),
        "Names": NAMING_WORDS[told.naming],
        "Layers": f"{told.layers} ({', '.join(f'{PART_WORDS[p]} {n}' for p, n in told.parts.items())})",
        "Rank": told.rank_words,
        "Alpha": told.alpha_words,
        "Numbers": f"{told.numbers:,}, {', '.join(told.types)}",
        "Trigger word": plain(told.trigger) or "not told",
        "Trained": told.date[:10] or "not told",
        **{label: plain(value, 200) for label, value in told.trained.items()},
    }
    st.table(rows, border="horizontal")
    if told.words:
        st.markdown(
            "**Words of its captions**  \n"
            + " ".join(f":gray-badge[{plain(w, 40)} {n}]" for w, n in told.words.items())
        )
    with st.expander(f"All text fields ({len(told.metadata)})", key="tool_fields"):
        st.table(
            {plain(k): plain(v, 300) for k, v in told.metadata.items()}, border="horizontal"
        ) if told.metadata else st.caption("It has none.")


def _check(file: Path, _told: LoraInfo) -> None:
    st.markdown(
        ":gray[Reads every number: values that are not finite, layers that do nothing, halves without the other half.]"
    )
    if primary(
        f"Check {human_size(file.stat().st_size)}", key="tool_go", icon=":material/health_and_safety:"
    ):
        _start(lambda: tasks.start_check(workspace(), file))


def _resize(file: Path, told: LoraInfo) -> None:
    st.markdown(
        ":gray[A smaller copy with the best approximation of each layer's change. LoHa and LoKr become LoRA.]"
    )
    how = st.segmented_control("By", ["rank", "keep"], default="rank", required=True, key="resize_how",
                               format_func={"rank": "A rank", "keep": "What is kept"}.__getitem__)  # fmt: skip
    top = max(told.ranks, default=16)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if how == "keep":
            keep = st.slider("Kept of each layer, %", 50, 100, 95, key="resize_keep",
                             help="Each layer gets the smallest rank that keeps this share of its change.")  # fmt: skip
            rank = tasks.MAX_RANK
        else:
            rank, keep = st.number_input("Rank", 1, tasks.MAX_RANK, max(1, top // 2), key="resize_rank"), None
        kind = _type()
    out = _out()
    if primary("Resize", key="tool_go", icon=":material/compress:"):
        _start(
            lambda: tasks.start_resize(
                workspace(), file, int(rank), keep=keep / 100 if keep else None, type=kind, out=out
            )
        )


def _merge(file: Path, told: LoraInfo) -> None:
    st.markdown(":gray[One file that does what several do together. Alphas and ranks are taken into account; files for different base "
                "models are refused.]")  # fmt: skip
    ws = workspace()
    others = {str(e.file(ws)): _entry_words(e) for e in list_library(ws) if e.file(ws).is_file()}
    others |= {str(p): p.name for p in sorted(tasks.made_dir(ws).glob("*.safetensors"))}
    others.pop(str(file), None)
    chosen = st.multiselect(
        "With",
        list(others),
        key="merge_with",
        format_func=others.__getitem__,
        max_selections=tasks.MAX_SOURCES - 1,
    )
    typed = st.text_area(
        "Or by path, one a line", key="merge_paths", height=68, placeholder="~/Downloads/face.safetensors"
    )
    paths = [
        file,
        *(Path(p) for p in chosen),
        *(Path(line.strip()).expanduser() for line in (typed or "").splitlines() if line.strip()),
    ]
    weights = []
    with st.container(horizontal=True):
        for n, path in enumerate(paths):
            weights.append(
                st.number_input(
                    f"Weight of {path.stem[:32]}",
                    value=1.0 if n == 0 else 0.6,
                    step=0.05,
                    key=f"merge_weight_{n}",
                )
            )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.number_input("Rank (0: exact, ranks added up)", 0, tasks.MAX_RANK, 0, key="merge_rank")
        kind = _type()
    out = _out()
    if primary(f"Merge {count_words(len(paths), 'file')}", key="tool_go", icon=":material/merge:",
               blocked="" if len(paths) > 1 else "Choose at least one more."):  # fmt: skip
        sources = list(zip(paths, (float(w or 0) for w in weights), strict=True))
        _start(lambda: tasks.start_merge(ws, sources, rank=int(size) or None, type=kind, out=out))


def _convert(file: Path, told: LoraInfo) -> None:
    other = {"kohya": "kohya: ComfyUI, A1111, Forge, sd-scripts", "diffusers": "diffusers and peft"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = st.selectbox("Names of the layers", [AS_IT_IS, *(n for n in other if n != told.naming)], key="convert_names",
                             format_func=lambda n: other.get(n, f"As they are: {NAMING_WORDS[told.naming]}"))  # fmt: skip
        kind = _type()
    out = _out()
    wanted = None if names == AS_IT_IS else names
    if primary(
        "Convert",
        key="tool_go",
        icon=":material/swap_horiz:",
        blocked="" if wanted or kind else "Choose other names or another format.",
    ):
        _start(lambda: tasks.start_convert(workspace(), file, names=wanted, type=kind, out=out))  # type: ignore[arg-type]


def _metadata(file: Path, _told: LoraInfo) -> None:
    st.markdown(
        ":gray[What the file tells of its maker, and a copy that does not. The tensors stay byte for byte as they are.]"
    )
    told = metadata_of(file)
    groups = privacy_choice("tool", told)
    found = privacy.changes(told, groups)
    out = _out()
    if primary(
        "Write a copy",
        key="tool_go",
        icon=":material/shield_person:",
        blocked="" if found else "There is nothing to leave out.",
    ):
        act(_write_clean, file, out, groups)
        st.rerun()


def _write_clean(file: Path, out: Path | None, groups: list[str]) -> None:
    target = tasks.free_target(workspace(), out, f"{file.stem}-clean", [file])
    privacy.clean_copy(file, target, groups)
    privacy.remember(workspace(), groups)
    say(f"`{target}` is written; its tensors are the same.")


def _type() -> tasks.NumberType | None:
    chosen = st.selectbox("Number format", [AS_IT_IS, *tasks.TYPES], key="tool_type")
    return None if chosen == AS_IT_IS else chosen  # type: ignore[return-value]


def _out() -> Path | None:
    typed = st.text_input("Save as", key="tool_out", placeholder=f"{tasks.made_dir(workspace())}/…",
                          help="A file or a folder; the workspace's folder 'loras' when empty. Nothing is overwritten.")  # fmt: skip
    return Path(typed.strip()) if (typed or "").strip() else None


def _start(work: Callable[[], object]) -> None:
    act(work)
    st.rerun()
