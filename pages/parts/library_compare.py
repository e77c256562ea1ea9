"""Two or more LoRAs side by side: previews, what differs first, and the same prompts drawn with each."""

from html import escape
from pathlib import Path

import streamlit as st

from pages.parts.cell_pictures import cell_url
from pages.parts.context import workspace
from pages.parts.page import caught
from pages.parts.words import plain
from studio.library.compare import MOST, Comparison, compare
from studio.library.entry import LibraryEntry
from studio.project import Project

_LOOK = """
.sides { display: grid; gap: 16px; }
.sides section { border: 1px solid light-dark(#dbe3e1, #2c3836); border-radius: 8px; padding: 12px; content-visibility: auto;
  contain-intrinsic-size: auto 280px; }
.sides section > div { display: grid; grid-template-columns: repeat(var(--n), minmax(0, 1fr)); gap: 10px; }
.sides h3 { font-size: 15px; font-weight: 500; margin: 0 0 8px; padding: 0; overflow-wrap: anywhere; }
.sides figure { margin: 0; } .sides img { width: 100%; max-width: 320px; height: auto; border-radius: 6px; display: block; }
.sides figcaption { color: light-dark(#4b5a57, #a5b4b1); font-size: 13px; }
"""


def side_by_side(entries: list[LibraryEntry]) -> None:
    """Choose, then look."""
    if len(entries) < 2:
        st.info("Register a second LoRA, or bring one in, to set them side by side.", title="One alone cannot be compared",
                icon=":material/compare:")  # fmt: skip
        return
    names = {e.slug: e for e in entries}
    chosen = st.multiselect("LoRAs", list(names), default=list(names)[:2], max_selections=MOST, key="compare_entries",
                            format_func=lambda s: names[s].title)  # fmt: skip
    if len(chosen) < 2:
        st.caption("Choose at least two.")
        return
    with caught():
        _shown(compare(workspace(), [names[s] for s in chosen]))


def _shown(found: Comparison) -> None:
    ws = workspace()
    columns = st.columns(len(found.entries), gap="medium")
    for column, entry in zip(columns, found.entries, strict=True):
        with column:
            preview = entry.preview(ws)
            if preview is not None:
                st.image(str(preview), width=240, alt=f"What {entry.title} draws at {entry.weight:g}")
            st.markdown(f"**{plain(entry.title)}**")
    for line in found.cautions:
        st.markdown(f":orange[:material/warning:] {plain(line)}")
    only = st.toggle("Only what differs", True, key="compare_differs")
    rows = [r for r in found.rows if r.differs or not only]
    if rows:
        body = [[f"**{r.label}**" if r.differs else r.label, *(plain(v) for v in r.values)] for r in rows]
        names = _unique([plain(e.title) for e in found.entries])
        st.table(
            {name: [line[n] for line in body] for n, name in enumerate(["\u200b", *names])},
            border="horizontal",
            hide_index=True,
        )
    else:
        st.caption("Nothing differs.")
    _pictures(found)


def _pictures(found: Comparison) -> None:
    titles = [e.title for e in found.entries]
    if found.shared:
        st.markdown("**The same prompts, each at its recommended weight**")
        parts = [
            _section(prompt, [(t, p) for t, p in zip(titles, shown, strict=True)])
            for prompt, shown in found.shared.items()
        ]
    else:
        drawn = [(t, d) for t, d in zip(titles, found.own, strict=True) if d]
        if not drawn:
            return
        st.markdown("**What each draws** :gray[(no prompt was drawn with all of them)]")
        parts = [_section(title, list(d.items())[:4]) for title, d in drawn]
    st.html(f"<style>{_LOOK}</style><div class='sides'>{''.join(parts)}</div>")


def _section(title: str, shown: list[tuple[str, Path]]) -> str:
    figures = "".join(
        f'<figure><img loading="lazy" decoding="async" src="{escape(_address(path))}" alt="{escape(title)}, {escape(label)}">'
        f"<figcaption>{escape(label)}</figcaption></figure>"
        for label, path in shown
    )
    return f"<section style='--n: {len(shown)}'><h3>{escape(title)}</h3><div>{figures}</div></section>"


def _unique(names: list[str]) -> list[str]:
    return [f"{n} ({i + 1})" if names.count(n) > 1 else n for i, n in enumerate(names)]


def _address(cell: Path) -> str:
    """The address of a drawn cell, which lies in `<project>/grids/cells`."""
    return cell_url(Project(workspace(), cell.parents[2].name), cell)
