"""The captions table: a page of rows keyed by the picture's name, edited in place, with nothing lost between two keys.

The grid is streamlit-aggrid. `caption_grid.js` keeps every change in the browser, numbered, until this half says, in the
data of the rows, up to which number it has stored them. Only those changes and the marked rows travel up; the grid keeps
its key while pages, filters and order change, so that a late change is still known here, by the name of its picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from st_aggrid import AgGrid, JsCode, StAggridTheme

from pages.parts.flash import act, say
from pages.parts.thumbs import base_path
from pages.parts.words import plain
from studio.captions.reading import Caption
from studio.captions.store import CaptionStore
from studio.captions.text import without_trigger
from studio.captions.typed import Clash, write_all
from studio.project import Project

ROWS = 100
"""Rows of one page: what a rerun sends down stays below a hundred kilobytes."""
ROW_PX, HEAD_PX, TALLEST_PX = 84, 42, 660
_MARKED, _STORED, _CLASHES = "caption_marked", "caption_stored", "caption_clashes"


def table(
    project: Project,
    rows: Sequence[str],
    captions: Mapping[str, Caption],
    thumb: Callable[[str], str],
    count: Callable[[str], int | None],
    limit: int | None,
) -> None:
    """Draw the rows of one page.

    thumb: gives the address of a picture's thumbnail; count: the tokens of a text; limit: how many the model reads.
    """
    st.caption(
        ":material/check: Words that you type count as approved. Untick **Approved** to look at them again later."
    )
    trigger = project.intent.trigger
    box, stored = st.session_state.get(_STORED, ("", 0))
    frame = pd.DataFrame(
        {
            "picture": [thumb(n) for n in rows],
            "caption": [without_trigger(captions[n].text, trigger) for n in rows],
            "approved": [captions[n].status == "approved" for n in rows],
            "tokens": [_tokens(count(captions[n].text)) for n in rows],
            "long": [limit is not None and (count(captions[n].text) or 0) > limit for n in rows],
            "name": list(rows),
            "by": [captions[n].by for n in rows],
            "box": [box] * len(rows),
            "ack": [stored] * len(rows),
        }
    )
    told = AgGrid(
        frame,
        gridOptions=deepcopy(_options()),
        height=min(TALLEST_PX, HEAD_PX + 4 + ROW_PX * max(2, len(rows))),
        key=f"caption_table_{project.slug}",
        data_return_mode="CUSTOM",
        custom_jscode_for_grid_return=JsCode("(p) => window.captionGrid.collect(p)"),
        update_on=["cellEditRequest", "selectionChanged"],
        callback=lambda told: act(take, project, told.raw_data),
        allow_unsafe_jscode=True,  # the code is ours alone; what comes from files is shown as text
        custom_css=_css(base_path()),
        theme=_theme(),
    )
    if fresh(told.raw_data):  # a server that was started anew calls nobody back for what was typed before
        act(take, project, told.raw_data)
        st.rerun()


def fresh(told: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The changes that were not stored yet, oldest first."""
    if not isinstance(told, dict):
        return []
    known, stored = st.session_state.get(_STORED, ("", 0))
    last = stored if known == str(told["box"]) else 0
    return sorted((c for c in told["changes"] if int(c["seq"]) > last), key=lambda c: int(c["seq"]))


def take(project: Project, told: dict[str, Any] | None) -> None:
    """Store what the browser tells: each change once, oldest first, however often it is told."""
    if not isinstance(told, dict):
        return
    changes, box = fresh(told), str(told["box"])
    done = write_all(
        CaptionStore(project), [(c["name"], c["field"], c["value"], (c["seen"], c["first"])) for c in changes]
    )
    known, stored = st.session_state.get(_STORED, ("", 0))
    st.session_state[_STORED] = (box, max([stored if known == box else 0, *(int(c["seq"]) for c in changes)]))
    st.session_state[_MARKED] = [str(n) for n in told.get("marked", [])]
    waiting: dict[str, Clash] = st.session_state.setdefault(_CLASHES, {})
    for name in done.changed:
        waiting.pop(name, None)
    waiting.update({c.name: c for c in done.clashes})
    if done.refused:
        say("Not everything could be saved.", findings=done.refused)


def marked(names: Sequence[str]) -> list[str]:
    """The rows that are marked in the table and still shown."""
    chosen = set(st.session_state.get(_MARKED) or ())
    return [n for n in names if n in chosen] if chosen else []


def show_clashes(project: Project) -> None:
    """Words that were typed over a caption which somebody else changed meanwhile: neither is thrown away."""
    waiting: dict[str, Clash] = st.session_state.get(_CLASHES) or {}
    for n, clash in enumerate(list(waiting.values())):
        with st.container(border=True, key=f"clash_{n}"):
            st.markdown(
                f":orange[:material/warning:] **The caption of {plain(clash.name)} was changed meanwhile**, in another "
                f"window or by another program.  \nNow: {plain(clash.now, 600) or ':gray[empty]'}  \n"
                f"Yours: {plain(clash.typed, 600) or ':gray[empty]'}"
            )
            with st.container(horizontal=True):
                st.button("Write mine", key=f"clash_mine_{n}", on_click=act, args=(_mine, project, clash))
                st.button(
                    "Leave it", key=f"clash_theirs_{n}", type="tertiary", on_click=_theirs, args=(clash,)
                )


def add_clash(clash: Clash) -> None:
    """Have words shown by `show_clashes` until the user decides."""
    st.session_state.setdefault(_CLASHES, {})[clash.name] = clash


def _mine(project: Project, clash: Clash) -> None:
    CaptionStore(project).set(clash.name, clash.typed, expected=clash.now)
    _theirs(clash)


def _theirs(clash: Clash) -> None:
    st.session_state.get(_CLASHES, {}).pop(clash.name, None)


def _tokens(count: int | None) -> str:
    return "" if count is None else str(count)


@cache
def _script() -> str:
    """The browser's half, without its comments, which the component cannot take."""
    lines = Path(__file__).with_name("caption_grid.js").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("//"))


@cache
def _options() -> dict[str, Any]:
    """How the grid behaves; the same at every rerun, since a change would rebuild its columns under an open cell."""
    value = JsCode("(p) => window.captionGrid.value(p)")
    return {
        "context": {"script": JsCode(_script())},  # first: what follows is looked up in it
        "columnDefs": [
            {
                "field": "picture",
                "headerName": "Picture",
                "width": 88,
                "cellRenderer": JsCode("window.captionGrid.Picture"),
            },
            {
                "field": "caption",
                "headerName": "Caption",
                "flex": 1,
                "minWidth": 180,
                "editable": True,
                "wrapText": True,
                "autoHeight": True,
                "valueGetter": value,
                "cellEditor": JsCode("window.captionGrid.Editor"),
                "cellEditorPopup": True,
                "cellClassRules": {"empty": "!value"},
                "headerTooltip": "Type, or press Enter to change; Enter saves and goes down, Escape leaves it as it was. "
                "The trigger word is put in front by itself.",
            },
            {
                "field": "approved",
                "headerName": "Approved",
                "width": 90,
                "editable": True,
                "cellDataType": "boolean",
                "valueGetter": value,
                "headerTooltip": "Ticked: the words are right. What you type counts as approved.",
            },
            {
                "field": "tokens",
                "headerName": "Tokens",
                "width": 70,
                "cellClassRules": {"long": "data.long"},
                "headerTooltip": "What the base model reads as one piece. Orange: the end is not read.",
            },
            {
                "field": "name",
                "headerName": "File",
                "valueGetter": JsCode("(p) => p.data.name + ' ' + p.data.by"),
                "width": 124,
                "cellRenderer": JsCode("window.captionGrid.Facts"),
            },
        ],
        "defaultColDef": {"sortable": False, "suppressMovable": True, "suppressHeaderMenuButton": True},
        "getRowId": JsCode("(p) => p.data.name"),
        "rowHeight": ROW_PX,
        "headerHeight": HEAD_PX,
        "rowSelection": {
            "mode": "multiRow",
            "checkboxes": True,
            "headerCheckbox": True,
            "enableClickSelection": False,
        },
        "readOnlyEdit": True,  # changes go through caption_grid.js; the grid's own data are only what the server says
        "enterNavigatesVerticallyAfterEdit": True,
        "stopEditingWhenCellsLoseFocus": True,
        "tooltipShowDelay": 400,
        "loadThemeGoogleFonts": False,
        "onRowDataUpdated": JsCode("(e) => window.captionGrid.forget(e.api)"),
        "onModelUpdated": JsCode("(e) => window.captionGrid.follow(e.api)"),
        "onGridSizeChanged": JsCode("(e) => window.captionGrid.resized(e)"),
        "onCellKeyDown": JsCode("(e) => window.captionGrid.composed(e)"),
        "onGridReady": JsCode("(e) => e.api.setGridAriaProperty('label', 'Captions, one row a picture')"),
    }


def _theme() -> StAggridTheme:
    """The app's own colours, so that the table does not look like something from elsewhere."""
    dark = st.context.theme.type == "dark"

    def colour(name: str, fallback: str) -> str:
        return str(st.get_option(f"theme.{'dark' if dark else 'light'}.{name}") or fallback)

    ground, text = ("#101716", "#e5ecea") if dark else ("#ffffff", "#1b2524")
    return StAggridTheme(base="quartz").withParams(
        accentColor=colour("primaryColor", "#2dd4bf" if dark else "#0f766e"),
        backgroundColor=colour("backgroundColor", ground),
        foregroundColor=colour("textColor", text),
        borderColor=colour("borderColor", "#8a9794"),
        headerBackgroundColor=colour("secondaryBackgroundColor", ground),
        chromeBackgroundColor=colour("secondaryBackgroundColor", ground),
        invalidColor=colour("orangeColor", "#fbbf24" if dark else "#b45309"),
        browserColorScheme="dark" if dark else "light",
        fontFamily=["Figtree", "Segoe UI", "system-ui", "sans-serif"],
        fontSize=14,
        wrapperBorderRadius=8,
        cellHorizontalPadding=10,
    )


@cache
def _css(base: str) -> dict[str, dict[str, str]]:
    """The table in the app's own type; the component draws in a frame that knows nothing of it."""
    font = {"font-family": "Figtree", "font-weight": "300 900"}
    latin = {**font, "src": f"url({base}/app/static/figtree-latin.woff2)"}
    return {
        "@font-face": latin,
        ".ag-cell": {
            "line-height": "1.45",
            "padding-top": "8px",
            "padding-bottom": "8px",
            "font-size": "14px",
        },
        ".ag-cell-wrap-text": {
            "word-break": "normal",
            "overflow-wrap": "anywhere",
            "white-space": "pre-wrap",
        },
        ".thumb": {
            "width": "68px",
            "height": "68px",
            "display": "flex",
            "align-items": "center",
            "font-size": "12px",
        },
        ".thumb img": {
            "max-width": "68px",
            "max-height": "68px",
            "border-radius": "6px",
            "object-fit": "contain",
        },
        ".facts .name, .facts .by": {
            "overflow": "hidden",
            "text-overflow": "ellipsis",
            "white-space": "nowrap",
        },
        ".facts .by": {"font-size": "12px", "opacity": ".8"},
        ".empty .ag-cell-value::before": {
            "content": "'No words yet'",
            "opacity": ".75",
            "font-style": "italic",
        },
        ".ag-cell[col-id=approved] .ag-cell-wrapper": {"align-items": "flex-start", "height": "auto"},
        ".long": {"color": "var(--ag-invalid-color)", "font-weight": "650"},
        ".unsaved": {
            "position": "absolute",
            "inset": "auto 0 0 0",
            "z-index": "20",
            "padding": "8px 16px",
            "font-weight": "600",
            "color": "var(--ag-invalid-color)",
            "background": "var(--ag-header-background-color)",
            "border-top": "1px solid var(--ag-border-color)",
        },
        ".typing": {
            "box-sizing": "border-box",
            "padding": "8px 9px",
            "font-family": "inherit",
            "font-size": "14px",
            "line-height": "1.45",
            "color": "inherit",
            "background": "var(--ag-background-color)",
            "border": "0",
            "outline": "2px solid var(--ag-accent-color)",
            "outline-offset": "-2px",
            "border-radius": "4px",
            "resize": "none",
            "display": "block",
        },
    }
