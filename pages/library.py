"""The registered LoRAs: what each does, how to call it up, where it lies, and the tools for LoRA files."""

import streamlit as st

from pages.parts.context import workspace
from pages.parts.library_cards import PANEL, card, open_panel, trash
from pages.parts.library_compare import side_by_side
from pages.parts.library_panels import add_panel, evaluate_panel, places_list, put_panel
from pages.parts.library_publish import publish_panel
from pages.parts.lora_tools import lora_tools
from pages.parts.nav import PAGES, link
from pages.parts.next import what_next
from pages.parts.page import caught, page
from studio.library.entry import LibraryEntry, list_library

VIEWS = {"loras": "LoRAs", "compare": "Side by side", "tools": "Tools", "places": "Other programs"}


def panel(entries: list[LibraryEntry]) -> None:
    """What was asked for on a card, above all of them."""
    asked = st.session_state.get(PANEL)
    if not asked:
        return
    what, about = asked
    entry = next((e for e in entries if e.slug == about), None)
    with st.container(border=True, key="library_panel_box"), caught():
        if what == "add":
            add_panel(about)
        elif entry is None:
            open_panel("")
        else:
            {"put": put_panel, "evaluate": evaluate_panel, "publish": publish_panel}[what](entry)


def shelf(entries: list[LibraryEntry]) -> None:
    """The cards, searched."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        query = ""
        if len(entries) > 6:
            query = st.text_input("Find", type="search", live=True, key="library_query") or ""
        st.button("Bring in a LoRA", key="bring_in", icon=":material/add:", on_click=open_panel, args=("add",),
                  help="A LoRA file from elsewhere.")  # fmt: skip
    if not entries:
        st.info("A LoRA gets here when you register it after looking at its grid, or when you bring one in.",
                title="Nothing registered yet", icon=":material/collections_bookmark:")  # fmt: skip
        link("home", "Go to your projects", icon=":material/arrow_forward:", project="")
    words = query.lower().split()
    shown = [e for e in entries if all(w in _searched(e) for w in words)]
    with caught(), st.grid(3, min_column_width=280, gap="medium"):
        for entry in shown:
            card(entry, newest=entry.slug == st.query_params.get("entry", ""))
    if entries and not shown:
        st.caption("No LoRA fits.")
    with caught():
        trash()
    if entries:
        page_file = workspace().root / "studio.md"
        same = f"The same list lies as a readable page at `{page_file}`."
        usable = [e for e in entries if not e.only_here]
        what_next(
            same, *(["Put a LoRA into ComfyUI, A1111 or Forge under More on its card."] if usable else [])
        )


def _searched(entry: LibraryEntry) -> str:
    told = (
        entry.title,
        entry.trigger,
        entry.good_for,
        entry.notes,
        entry.base_title,
        entry.kind,
        entry.family,
        entry.project,
    )
    return " ".join(told).lower()


with page(
    PAGES["library"].title, "Your registered LoRAs: what each does, how to call it up, and where it lies."
):
    entries = list_library(workspace())
    view = st.segmented_control("Show", list(VIEWS), key="library_view", default="loras", format_func=VIEWS.__getitem__,
                                required=True, label_visibility="collapsed", persist_state="page")  # fmt: skip
    panel(entries)
    if view == "compare":
        side_by_side(entries)
    elif view == "tools":
        lora_tools()
    elif view == "places":
        st.markdown(
            "Name the folders of ComfyUI, A1111 and Forge once; after that a LoRA is put there with one click, and taken back as easily."
        )
        places_list()
    else:
        shelf(entries)
