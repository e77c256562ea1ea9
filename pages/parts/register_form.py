"""Putting a LoRA into the library from its grid."""

import streamlit as st

from pages.parts.library_panels import privacy_choice
from pages.parts.nav import go
from pages.parts.page import show_error
from studio.errors import StudioError
from studio.evaluation.grid import Grid
from studio.library.entry import list_library
from studio.library.register import OnClash, propose_good_for, register
from studio.lora import privacy
from studio.lora.file import metadata_of
from studio.project import Project
from studio.training.runs import list_runs

CLASHES: dict[OnClash, str] = {
    "version": "Add as a new version",
    "replace": "Replace it (the old one goes to the trash)",
}


def registration(project: Project, grid: Grid) -> None:
    """Put the LoRA into the library."""
    verdict, labels = grid.verdict, [x.label for x in grid.spec.lora_files]
    advised = verdict.checkpoint if verdict and verdict.checkpoint in labels else labels[-1]
    # The form tells its choice only when it is sent; until then the proposed checkpoint stands for it.
    shown = st.session_state.get("register_checkpoint") or advised
    file = next(x.path for x in grid.spec.lora_files if x.label == shown)
    out = privacy_choice("register", metadata_of(file) if file.is_file() else {})
    with st.form("register", width=720):
        st.markdown("**Register in the library**")
        name = st.text_input("Name", project.intent.name, max_chars=80, required=True)
        left, right = st.columns(2)
        label = left.selectbox("Checkpoint", labels, index=labels.index(advised), key="register_checkpoint")
        # Without limits of its own: the field would only turn red, and send the number before. `register` says why instead.
        weight = right.number_input("Recommended weight", value=(verdict.weight if verdict else None) or 0.8, step=0.05,
                                    key="register_weight", help="Most LoRAs work between 0.3 and 1.")  # fmt: skip
        good_for = st.text_input(
            "Good for", propose_good_for(project, grid), max_chars=300, key="register_good_for"
        )
        notes = st.text_area("Notes", key="register_notes", height=90)
        clash: OnClash = "version"
        if any(e.project == project.slug for e in list_library(project.workspace)):
            clash = st.radio(
                "If the library has this name already",
                list(CLASHES),
                horizontal=True,
                key="register_clash",
                format_func=CLASHES.__getitem__,
            )
        sent = st.form_submit_button("Register", type="primary", icon=":material/bookmark_added:")
    if not sent:
        return
    run = next((r for r in list_runs(project) if r.id == grid.spec.run), None)
    try:
        entry = register(
            project,
            grid,
            run,
            label,
            float(weight),
            good_for or "",
            notes or "",
            name=name or "",
            on_clash=clash,
            leave_out=out,
        )
        privacy.remember(project.workspace, out)
    except StudioError as e:
        show_error(e)
        return
    st.toast(f"{entry.title} is in the library.", icon=":material/bookmark_added:")
    go("library", entry=entry.slug)
