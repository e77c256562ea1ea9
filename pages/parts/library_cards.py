"""The cards of the library: what each LoRA does, how to call it up, where it lies, and what can be done with it."""

from pathlib import Path

import streamlit as st

from pages.parts.context import workspace
from pages.parts.flash import act, say
from pages.parts.library_weight import weight
from pages.parts.nav import link
from pages.parts.page import caught, start_at_top
from pages.parts.words import plain
from studio.files import human_size
from studio.guidance import count_words
from studio.library.entry import LibraryEntry
from studio.library.hub.publication import published
from studio.library.places import placed
from studio.library.register import restore, unregister
from studio.library.trash import removed_loras
from studio.lora.privacy import GROUPS
from studio.project import KINDS
from studio.workspace import Trashed

PANEL = "library_panel"
TURN = "library_turn"
SURE = "library_sure"
ONLY_HERE = (
    "It belongs to the built-in model, which other programs do not have: only LoRA Studio can draw with it."
)
DOORS = {
    "put": ("Put into another program", ":material/drive_file_move:"),
    "evaluate": ("Draw a new grid", ":material/grid_view:"),
    "publish": ("Publish", ":material/cloud_upload:"),
}


def open_panel(what: str, about: str = "") -> None:
    """Show a panel above the cards; "" closes it."""
    st.session_state[PANEL] = (what, about) if what else None
    # A popover stays open until it is clicked away; under another key it is a new one, which is closed.
    st.session_state[TURN] = st.session_state.get(TURN, 0) + 1
    if what:
        start_at_top()


def ask(slug: str) -> None:
    """Ask before taking a LoRA out; "" for no."""
    st.session_state[SURE] = slug


def remove(entry: LibraryEntry) -> None:
    """Take a LoRA out; it can be brought back from the trash."""
    st.session_state.pop(SURE, None)
    place = unregister(workspace(), entry.slug)
    say(f"**{plain(entry.title)}** was taken out of the library.", undo=lambda: restore(workspace(), place))


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
                st.markdown(
                    f"**{plain(item.name)}** :small[:gray[taken out {item.at[:10]}]]", width="stretch"
                )
                st.button("Put it back", key=f"back_{item.place.parent.name}", icon=":material/undo:", on_click=act,
                          args=(put_back, item))  # fmt: skip


def put_back(item: Trashed) -> None:
    """Get a LoRA back from the trash."""
    entry = restore(workspace(), item.place)
    say(f"**{plain(entry.title)}** is back in the library.")


def card(entry: LibraryEntry, *, newest: bool) -> None:
    """One LoRA."""
    ws = workspace()
    with st.container(border=True, height="stretch", gap="small", key=f"entry_{entry.slug}"):
        preview = entry.preview(ws)
        if preview is not None:
            st.image(str(preview), width="stretch", alt=f"What {entry.title} draws at {entry.weight:g}")
        mark = " :green-badge[new]" if newest else ""
        kind = KINDS[entry.kind]["title"].split()[-1].capitalize()
        base = f"{kind} for {plain(entry.base_title)}" if entry.base_title else kind
        st.markdown(f"**{plain(entry.title)}**{mark}  \n:small[:gray[{base}]]")
        if entry.good_for:
            st.markdown(plain(entry.good_for))
        if entry.trigger:
            with st.container(gap="xxsmall"):
                st.caption("Trigger word")
                st.code(entry.trigger, language=None)
        weight(entry)
        where = [p.file.parent for p in placed(ws, entry)]
        if where:
            st.caption(f":material/drive_file_move: In {count_words(len(where), 'other program')}")
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
            with st.popover("More", key=f"more_{entry.slug}_{st.session_state.get(TURN, 0)}"), caught():
                details(entry, file)


def details(entry: LibraryEntry, file: Path) -> None:
    """Where it lies, how it was trained, how to use it elsewhere, and how to take it out."""
    ws = workspace()
    if file.is_file():
        with st.container(gap="xsmall"):
            for what, (label, icon) in DOORS.items():
                if what != "put" or not entry.only_here:
                    st.button(label, key=f"{what}_{entry.slug}", icon=icon, on_click=open_panel, args=(what, entry.slug),
                              width="stretch")  # fmt: skip
    st.caption("Where it lies")
    st.code(str(file), language=None, wrap_lines=True)
    for there in placed(ws, entry):
        st.caption("Linked in" if there.linked else "Copied to")
        st.code(str(there.file), language=None, wrap_lines=True)
        st.button("Take it back from there", key=f"takeback_{entry.slug}_{there.file.parent}", icon=":material/undo:",
                  on_click=act, args=(take_back_from, entry, there.file.parent))  # fmt: skip
    if entry.only_here:
        st.caption(ONLY_HERE)
    else:
        st.caption("In A1111 and Forge")
        st.code(f"<lora:{entry.name}:{entry.weight:g}> {entry.trigger}".strip(), language=None)
    online = published(ws, entry)
    st.table(
        {
            "Trained": plain(entry.training_words)
            + (f", {plain(entry.checkpoint)}" if entry.checkpoint else ""),
            "Training date": entry.trained[:10] or "unknown",
            "Base model": f"{plain(entry.base_title)}",
            "Size": human_size(entry.size_bytes),
            "Registered": entry.registered[:10],
            **({"Brought in as": plain(entry.brought_from)} if entry.brought_from else {}),
            **(
                {"Not in its metadata": ", ".join(GROUPS[g].lower() for g in entry.left_out if g in GROUPS)}
                if entry.left_out
                else {}
            ),
            **({"Verdict": plain(entry.verdict)} if entry.verdict else {}),
            **({"Notes": plain(entry.notes)} if entry.notes else {}),
            **(
                {"Published": f"{plain(str(online[-1].get('repo')))}, {str(online[-1].get('at'))[:10]}"}
                if online
                else {}
            ),
        },
        border="horizontal",
    )
    if entry.project in ws.project_slugs() and entry.grid:
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
        f"Take **{plain(entry.title)}** out of the library? It goes to the trash, and can be brought back. Copies in other programs stay."
    )
    with st.container(horizontal=True):
        st.button("Remove", key=f"sure_{entry.slug}", icon=":material/delete:", type="primary", on_click=act,
                  args=(remove, entry))  # fmt: skip
        st.button("Keep", key=f"keep_{entry.slug}", on_click=ask, args=("",))


def take_back_from(entry: LibraryEntry, folder: Path) -> None:
    """Take a LoRA out of another program's folder; the way back puts it there again."""
    from studio.library.places import put_into, take_back

    gone = take_back(workspace(), entry, folder)
    stays = f" {count_words(len(gone.skipped), 'file')} was changed since and stays." if gone.skipped else ""
    say(f"**{plain(entry.title)}** was taken out of `{folder}`.{stays}",
        undo=lambda: put_into(workspace(), entry, folder))  # fmt: skip
