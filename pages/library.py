"""The registered LoRAs: what each does, how to call it up, and where it lies."""

from pathlib import Path

import streamlit as st

from pages.parts.context import workspace
from pages.parts.flash import act, say
from pages.parts.nav import PAGES, link
from pages.parts.next import what_next
from pages.parts.page import caught, page, show_error
from studio.errors import StudioError
from studio.files import human_size
from studio.guidance import count_words
from studio.library.entry import LibraryEntry, list_library
from studio.library.register import restore, unregister
from studio.library.trash import Removed, removed_loras
from studio.project import KINDS

REMOVED = "library_removed"
SURE = "library_sure"
ONLY_HERE = (
    "It belongs to the built-in model, which other programs do not have: only LoRA Studio can draw with it."
)


def ask(slug: str) -> None:
    """Ask before taking a LoRA out; "" for no."""
    st.session_state[SURE] = slug


def remove(slug: str, title: str) -> None:
    """Take a LoRA out; it can be brought back from the trash."""
    st.session_state.pop(SURE, None)
    with caught():
        st.session_state[REMOVED] = (title, str(unregister(workspace(), slug)))


def bring_back() -> None:
    """Undo the last removal."""
    _title, place = st.session_state.pop(REMOVED)
    with caught():
        restore(workspace(), Path(place))


def undo_line() -> None:
    """Offer to undo the last removal."""
    removed = st.session_state.get(REMOVED)
    if removed is None:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="undo_line"):
        st.markdown(f":material/delete: **{removed[0]}** was taken out of the library.", width="stretch")
        st.button("Undo", key="undo", icon=":material/undo:", on_click=bring_back)


def trash() -> None:
    """LoRAs that were taken out, also before this visit, with their way back."""
    gone = removed_loras(workspace())
    if not gone:
        return
    with st.expander(
        f"Trash ({count_words(len(gone), 'LoRA')})", icon=":material/delete:", key="library_trash"
    ):
        for item in gone:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{item.title}** :small[:gray[taken out {item.at[:10]}]]", width="stretch")
                st.button("Put it back", key=f"back_{item.place.parent.name}", icon=":material/undo:", on_click=act,
                          args=(put_back, item))  # fmt: skip


def put_back(item: Removed) -> None:
    """Get a LoRA back from the trash."""
    entry = restore(workspace(), item.place)
    if st.session_state.get(REMOVED, ("", ""))[1] == str(item.place):
        st.session_state.pop(REMOVED)  # what it would undo is undone
    say(f"**{entry.title}** is back in the library.")


def card(entry: LibraryEntry, *, newest: bool) -> None:
    """One LoRA."""
    ws = workspace()
    with st.container(border=True, height="stretch", gap="small", key=f"entry_{entry.slug}"):
        preview = entry.preview(ws)
        if preview is not None:
            st.image(str(preview), width="stretch", alt=f"What {entry.title} draws at {entry.weight:g}")
        mark = " :green-badge[new]" if newest else ""
        st.markdown(f"**{entry.title}**{mark}  \n:small[:gray[{KINDS[entry.kind]['title'].split()[-1].capitalize()} for "
                    f"{entry.base_title}]]")  # fmt: skip
        if entry.good_for:
            st.markdown(entry.good_for)
        with st.container(gap="xxsmall"):
            st.caption("Trigger word")
            st.code(entry.trigger, language=None)
        st.markdown(f":material/tune: Weight **{entry.weight_words}**")
        st.space("stretch")
        with st.container(horizontal=True, vertical_alignment="center"):
            file = entry.file(ws)
            if file.is_file():
                st.download_button(
                    "Download", file.read_bytes, file_name=file.name, mime="application/octet-stream", on_click="ignore",
                    key=f"get_{entry.slug}", icon=":material/download:",
                )  # fmt: skip
            else:
                st.markdown(":orange[:material/warning: The file is gone.]")
            with st.popover("More", key=f"more_{entry.slug}"):
                details(entry, file)


def details(entry: LibraryEntry, file: Path) -> None:
    """Where it lies, how it was trained, how to use it elsewhere, and how to take it out."""
    st.caption("Where it lies")
    st.code(str(file), language=None, wrap_lines=True)
    if entry.only_here:
        st.caption(ONLY_HERE)
    else:
        st.caption("In A1111 and Forge")
        st.code(f"<lora:{entry.name}:{entry.weight:g}> {entry.trigger}", language=None)
    st.table(
        {
            "Trained": f"{entry.training_words}" + (f", {entry.checkpoint}" if entry.checkpoint else ""),
            "Size": human_size(entry.size_bytes),
            "Registered": entry.registered[:10],
            **({"Verdict": entry.verdict} if entry.verdict else {}),
            **({"Notes": entry.notes} if entry.notes else {}),
        },
        border="horizontal",
    )
    if entry.project in workspace().project_slugs():
        link("evaluation", "Its grid", icon=":material/grid_view:", project=entry.project, grid=entry.grid)
    if st.session_state.get(SURE) != entry.slug:
        st.button(
            "Remove from the library",
            key=f"remove_{entry.slug}",
            icon=":material/delete:",
            on_click=ask,
            args=(entry.slug,),
        )
        return
    st.markdown(
        f"Take **{entry.title}** out of the library? It goes to the trash, and can be brought back. Copies in other programs stay."
    )
    with st.container(horizontal=True):
        st.button("Remove", key=f"sure_{entry.slug}", icon=":material/delete:", type="primary", on_click=remove,
                  args=(entry.slug, entry.title))  # fmt: skip
        st.button("Keep", key=f"keep_{entry.slug}", on_click=ask, args=("",))


with page(
    PAGES["library"].title, "Your registered LoRAs: what each does, how to call it up, and where it lies."
):
    undo_line()
    entries = list_library(workspace())
    wanted = st.query_params.get("entry", "")
    if not entries:
        st.info("A LoRA gets here when you register it after looking at its grid.", title="Nothing registered yet",
                icon=":material/collections_bookmark:")  # fmt: skip
        link("home", "Go to your projects", icon=":material/arrow_forward:", project="")
        with caught():
            trash()
        st.stop()
    query = ""
    if len(entries) > 6:
        query = st.text_input("Find", type="search", live=True, key="library_query") or ""
    shown = [
        e for e in entries if query.lower() in f"{e.title} {e.trigger} {e.good_for} {e.base_title}".lower()
    ]
    try:
        with st.grid(3, min_column_width=280, gap="medium"):
            for entry in shown:
                card(entry, newest=entry.slug == wanted)
    except StudioError as e:
        show_error(e)
    if not shown:
        st.caption("No LoRA fits.")
    with caught():
        trash()
    page_file = workspace().root / "studio.md"
    same = f"The same list lies as a readable page at `{page_file}`."
    if all(e.only_here for e in entries):
        what_next(same)
    else:
        what_next(
            same,
            "Copy a file into `models/loras` of ComfyUI or `models/Lora` of A1111 and Forge to use it there.",
        )
