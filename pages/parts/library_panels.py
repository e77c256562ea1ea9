"""Panels above the cards: put a LoRA into another program, draw a new grid of it, bring one in from elsewhere."""

from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.context import workspace
from pages.parts.flash import act, say
from pages.parts.library_cards import open_panel
from pages.parts.nav import go
from pages.parts.next import primary
from pages.parts.page import show_error
from pages.parts.renderer_choice import renderer_choice
from pages.parts.words import plain
from studio import models
from studio.errors import StudioError
from studio.evaluation.grid import DEFAULT_WEIGHTS, start_grid
from studio.files import human_size, human_time
from studio.guidance import count_words
from studio.library.bring_in import FAMILY_WORDS, Proposal, bring_in, keep_upload, propose
from studio.library.entry import LibraryEntry
from studio.library.evaluations import evaluation_project, prepare_grid
from studio.library.places import (
    ACTION_WORDS,
    Place,
    add_place,
    forget_place,
    places,
    plan,
    put_into,
    take_back,
)
from studio.lora import privacy
from studio.project import KINDS

BROUGHT = "library_brought"
WEIGHTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)


def head(title: str) -> None:
    """The title of a panel, and the way out of it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{title}**", width="stretch")
        st.button("Close", key="panel_close", type="tertiary", on_click=open_panel, args=("",))


# --- other programs


def put_panel(entry: LibraryEntry) -> None:
    """What would be written where, and the button that does it."""
    head(f"Put {plain(entry.title)} into another program")
    known = places(workspace())
    if not known:
        st.markdown("Name the folder of ComfyUI, A1111 or Forge once; it is remembered.")
        place_form()
        return
    names = {p.name: p for p in known}
    chosen = (
        st.segmented_control("Where", list(names), default=known[0].name, required=True, key="put_where")
        or known[0].name
    )
    place = names[chosen]
    try:
        pieces = plan(workspace(), entry, place.folder, link=place.link)
    except StudioError as e:
        show_error(e)
        return
    st.caption(f"In `{place.folder}`:")
    for piece in pieces:
        st.markdown(
            f"- `{piece.target.name}` ({human_size(piece.size)}, {piece.what}) {ACTION_WORDS[piece.action]}"
        )
    new = [p for p in pieces if p.action in ("copy", "link")]
    blocked = ""
    if pieces[0].action == "taken":
        blocked = "Another file has its name there. Move it away first."
    elif not new:
        blocked = "All of it is there already."
    size = human_size(sum(p.size for p in new if p.action == "copy"))
    verb = "Link" if pieces[0].action == "link" else "Copy"
    if primary(
        f"{verb} to {chosen} · {size}", key="put_go", icon=":material/drive_file_move:", blocked=blocked
    ):
        act(_put, entry, place)
        st.rerun()
    with st.expander("Other places", key="put_places"):
        places_list()


def _put(entry: LibraryEntry, place: Place) -> None:
    placed = put_into(workspace(), entry, place.folder, link=place.link)
    open_panel("")
    skipped = (
        f" {count_words(len(placed.skipped), 'file')} of the same name stays as it is."
        if placed.skipped
        else ""
    )
    say(f"**{plain(entry.title)}** is {'linked' if placed.linked else 'copied'} into {plain(place.name)}.{skipped}",
        undo=lambda: take_back(workspace(), entry, place.folder))  # fmt: skip


def places_list() -> None:
    """The named folders, and a form for one more."""
    for place in places(workspace()):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(place.name)}** :small[:gray[{plain(str(place.folder))} · {'links' if place.link else 'copies'}]]",
                        width="stretch")  # fmt: skip
            st.button("Forget", key=f"forget_{place.name}", icon=":material/close:", type="tertiary", on_click=act,
                      args=(_forget, place), help="What lies there stays.")  # fmt: skip
    place_form()


def _forget(place: Place) -> None:
    forget_place(workspace(), place.name)
    say(f"{plain(place.name)} is forgotten; what lies there stays.",
        undo=lambda: add_place(workspace(), place.folder, place.name, link=place.link))  # fmt: skip


def place_form() -> None:
    """Name a folder of another program."""
    with st.form("place_form", border=False, enter_to_submit=True):
        folder = st.text_input("Folder", key="place_folder", placeholder="~/ComfyUI",
                               help="The program's own folder, or its folder for LoRAs.")  # fmt: skip
        link = st.checkbox("Put links there instead of copies", key="place_link",
                           help="Links take no room, but need the same disk; else it is copied.")  # fmt: skip
        sent = st.form_submit_button("Remember this folder", icon=":material/add:")
    if sent:
        act(_remember, folder or "", link)
        st.rerun()


def _remember(folder: str, link: bool) -> None:
    place = add_place(workspace(), Path(folder.strip() or "?"), link=link)
    say(f"{plain(place.name)} is `{place.folder}`.")


# --- a new grid


def evaluate_panel(entry: LibraryEntry) -> None:
    """What a new grid would draw, what that takes, and the button that starts it and leads there."""
    head(f"A new grid of {plain(entry.title)}")
    try:
        project = evaluation_project(workspace(), entry)
    except StudioError as e:
        show_error(e)
        return
    weights = st.pills("Weights", WEIGHTS, selection_mode="multi", default=[w for w in DEFAULT_WEIGHTS if w in WEIGHTS],
                       format_func=lambda w: f"{w:g}", key="again_weights", wrap=True,
                       help="The recommended weight and weight 0, the base model alone, are always on the grid.")  # fmt: skip
    drawer = renderer_choice(project)
    if drawer.blocked:
        primary(
            "Draw the grid",
            key="again_go",
            icon=":material/grid_view:",
            blocked=drawer.blocked,
            mend_on="setup",
            mend_label="Set-up",
        )
        return
    try:
        ready = prepare_grid(workspace(), entry, [entry.weight, *weights], **drawer.options)
    except StudioError as e:
        show_error(e)
        return
    cost = ready.cost
    takes = f" · about {human_time(cost.seconds)}" if cost.seconds is not None else ""
    st.caption(f"{len(ready.spec.weights)} weights × {count_words(len(ready.spec.prompts), 'prompt')} with {plain(entry.base_title)}"
               + (f"; {cost.there} of {cost.cells} pictures are there already." if cost.there else "."))  # fmt: skip
    label = (
        f"Draw {count_words(cost.to_render, 'picture')}{takes}"
        if cost.to_render
        else "Put this grid together · seconds"
    )
    if primary(label, key="again_go", icon=":material/grid_view:"):
        try:
            start_grid(ready.project, ready.spec)
        except StudioError as e:
            show_error(e)
            return
        open_panel("")
        go("evaluation", project=ready.project.slug, grid=ready.spec.id)


# --- from elsewhere


def add_panel(path: str = "") -> None:
    """Bring a LoRA file in: by path or by upload, looked at before anything is kept."""
    head("Bring in a LoRA from elsewhere")
    file = chosen_file(BROUGHT, path)
    if file is None:
        st.caption("A .safetensors file. It is only read; the library keeps a copy.")
        return
    try:
        told = propose(workspace(), file)
    except StudioError as e:
        show_error(e)
        return
    info = told.info
    st.markdown(f"{plain(file.name)}: **{info.kind}** for {FAMILY_WORDS.get(info.family, info.family)}, rank {info.rank_words}, "
                f"{human_size(info.size_bytes)}")  # fmt: skip
    _add_form(file, told, privacy_choice("add", info.metadata))


def _add_form(file: Path, told: Proposal, out: list[str]) -> None:
    known = {m.id: m.title for m in (told.models or models.list_models(workspace()))}
    with st.form("add_form", border=False):
        left, right = st.columns(2)
        title = left.text_input("Name", told.title, max_chars=80, key="add_title")
        trigger = right.text_input("Trigger word", told.trigger, max_chars=200, key="add_trigger",
                                   help="As far as the file tells it. A style may have none.")  # fmt: skip
        kind = left.selectbox(
            "It teaches", list(KINDS), index=1, key="add_kind", format_func=lambda k: KINDS[k]["title"]
        )
        weight = right.number_input("Recommended weight", value=0.8, step=0.05, key="add_weight")
        base = left.selectbox("Base model", list(known), key="add_base", format_func=known.__getitem__)
        good_for = right.text_input("Good for", "", max_chars=300, key="add_good_for")
        picture = left.text_input(
            "Picture to show", "", key="add_picture", placeholder="Path of a picture; may stay empty"
        )
        notes = right.text_input("Notes", "", key="add_notes")
        again = st.checkbox("Add as a new version where the name is taken", key="add_version")
        sent = st.form_submit_button("Bring it in", type="primary", icon=":material/bookmark_added:")
    if not sent:
        return
    try:
        entry = bring_in(
            workspace(), file, kind=kind, weight=float(weight or 0), title=title or "", trigger=trigger or "", base_model=base or "",
            good_for=good_for or "", notes=notes or "", preview=Path(picture.strip()).expanduser() if (picture or "").strip() else None,
            on_clash="version" if again else "ask", leave_out=out,
        )  # fmt: skip
    except StudioError as e:
        show_error(e)
        return
    privacy.remember(workspace(), out)
    open_panel("")
    st.session_state.pop(BROUGHT, None)
    say(f"**{plain(entry.title)}** is in the library.")
    st.rerun()


def chosen_file(key: str, path: str = "") -> Path | None:
    """A LoRA file named by its path or uploaded; an upload is checked before it is kept."""
    left, right = st.columns(2)
    typed = left.text_input("Path", path, key=f"{key}_path", placeholder="~/Downloads/style.safetensors")
    up = right.file_uploader("Or upload it", key=f"{key}_upload")
    if up is not None:
        kept: dict[str, Any] = st.session_state.setdefault(f"{key}_kept", {})
        if kept.get("id") != up.file_id:
            try:
                kept.update(id=up.file_id, path=str(keep_upload(workspace(), up.name, up.getvalue())))
            except StudioError as e:
                show_error(e)
                return None
        return Path(str(kept["path"]))
    return Path((typed or "").strip()).expanduser() if (typed or "").strip() else None


def privacy_choice(key: str, metadata: dict[str, str] | None = None) -> list[str]:
    """What the file's metadata shall not tell, with what each field says now and then; as last chosen at first."""
    out = st.pills(
        "Leave out of the file's metadata", list(privacy.GROUPS), selection_mode="multi",
        default=list(privacy.remembered(workspace())), format_func=lambda g: privacy.GROUPS[g], key=f"{key}_leave_out", wrap=True,
        help="Programs do not need these to draw. The tensors stay as they are; your choice is remembered.",
    )  # fmt: skip
    if metadata is None:
        return list(out)
    found = privacy.changes(metadata, out)
    if not found:
        st.caption(
            "No text field of this file tells any of it." if metadata else "The file has no text fields."
        )
        return list(out)
    with st.expander(
        f"{count_words(len(found), 'text field')} of {len(metadata)} would tell less", key=f"{key}_changes"
    ):
        st.table({"Field": [plain(c.key) for c in found], "Now": [plain(c.before, 160) for c in found],
                  "In the copy": [plain(c.after, 160) or ":gray[left out]" for c in found]}, border="horizontal", hide_index=True)  # fmt: skip
    return list(out)
