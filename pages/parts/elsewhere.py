"""A grid that ComfyUI draws where the studio cannot reach it: its workflows into a folder, and the pictures back from one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from pages.parts.flash import act, say
from studio import models
from studio.errors import InputError
from studio.evaluation.comfy import drawing_options
from studio.evaluation.comfyui import exchange, graphs
from studio.evaluation.grid import Grid, GridSpec, measure_only
from studio.findings import Finding
from studio.guidance import count_words
from studio.project import Project


def workflows_door(project: Project, planned: Callable[[dict[str, object]], GridSpec]) -> None:
    """An expander under the plan of a grid. planned: the grid as it is chosen above, given what ComfyUI's options add."""
    if models.get_model(project.workspace, project.intent.base_model).family not in graphs.FAMILIES:
        return
    with st.expander(
        "Draw it with ComfyUI elsewhere", icon=":material/drive_file_move_outline:", key="elsewhere_box"
    ):
        st.markdown(
            ":gray[For a ComfyUI that cannot be reached from here. The workflows and the LoRA go into a new folder, with a note "
            "what to do with them; the finished pictures are brought back into the grid.]"
        )
        st.text_input("Into a new folder", key="elsewhere_target", placeholder=str(exchange.free_folder(project)),
                      help="A path on this computer that does not exist yet. Left empty, it becomes the one shown.")  # fmt: skip
        st.button(
            "Save the workflows",
            key="elsewhere_save",
            icon=":material/save:",
            on_click=act,
            args=(_save, project, planned),
        )


def _save(project: Project, planned: Callable[[dict[str, object]], GridSpec]) -> None:
    folder = _path("elsewhere_target") or exchange.free_folder(project)
    spec = planned(drawing_options(project, "comfyui", ask=False))
    saved = exchange.save_workflows(project, spec, folder)
    st.session_state["elsewhere_target"] = ""
    st.query_params["grid"] = spec.id
    count = exchange.columns_of(saved.workflows)
    say(f"{count_words(count, 'workflow')} for {count_words(saved.cells, 'picture')} saved in {saved.folder}. "
        "READ ME.txt there says what to do.")  # fmt: skip


def only_saved(grid: Grid) -> bool:
    """Whether nothing was ever drawn for this grid here: its workflows were saved, and it waits for their pictures."""
    return not (grid.folder / "job.json").is_file()


def bring_back_door(grid: Grid) -> None:
    """An expander on a grid of ComfyUI's that lacks pictures."""
    if grid.spec.renderer != "comfyui":
        return
    with st.expander(
        "Bring pictures back from ComfyUI", icon=":material/drive_folder_upload:", key="bring_back_box"
    ):
        st.markdown(
            f":gray[From its folder output/{graphs.PREFIX}/{grid.id}, or a copy of it. The folder is only read; pictures that are "
            "here already stay.]"
        )
        st.text_input(
            "Folder with the pictures", key="bring_back_folder", placeholder="/path/to/ComfyUI/output"
        )
        st.button(
            "Bring them back",
            key="bring_back_go",
            icon=":material/drive_folder_upload:",
            on_click=act,
            args=(_bring, grid),
        )


def _bring(grid: Grid) -> None:
    folder = _path("bring_back_folder")
    if folder is None:
        raise InputError(
            "No folder was named.",
            "The pictures are looked for in one.",
            "Give the whole path of the folder.",
        )
    found = exchange.bring_back(grid, folder)
    refused = [
        Finding(severity="info", code="picture-not-taken", what=f"{name} was not taken: {why}.")
        for name, why in list(found.refused.items())[:20]
    ]
    if not found.matched:
        say("No picture in that folder is one that this grid lacks.", findings=refused, in_vain=True)
        return
    measure_only(grid)
    st.session_state["bring_back_folder"] = ""
    left = (
        f" {count_words(found.missing, 'picture')} still missing."
        if found.missing
        else " All of them are here now."
    )
    say(f"{count_words(found.matched, 'picture')} brought back.{left}", findings=refused)


def _path(key: str) -> Path | None:
    typed = str(st.session_state.get(key) or "").strip().strip("\"'")
    if typed and not Path(typed).expanduser().is_absolute():
        raise InputError(
            f"'{typed[:200]}' does not say in which folder.",
            "The app has no folder of its own that you would find again.",
            "Give the whole path, such as one that begins with / or ~ or C:\\.",
        )
    return Path(typed).expanduser() if typed else None
