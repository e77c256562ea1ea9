"""The queue on the run page: what waits, its order, and how the last ones ended."""

import streamlit as st

from pages.parts.flash import act
from pages.parts.page import caught
from studio import queue
from studio.project import Project

LOOK = {
    "waiting": (":gray", ":material/schedule:", "waits"),
    "checking": (":blue", ":material/rule:", "its gates are checked"),
    "running": (":blue", ":material/progress_activity:", "trains"),
    "finished": (":green", ":material/check_circle:", "finished"),
    "failed": (":red", ":material/error:", "failed"),
    "refused": (":orange", ":material/block:", "was not started"),
}


def _add(project: Project) -> None:
    queue.add(project)
    queue.wake(project.workspace)


def queue_button(project: Project) -> None:
    """Put a run with the settings of now at the end of the list."""
    st.button(
        "Add to the queue", key="queue_add", icon=":material/playlist_add:", on_click=act, args=(_add, project),
        help="It keeps the settings of now, passes its gates when its turn comes, and starts when the runs before it have ended.",
    )  # fmt: skip


def queue_view(project: Project) -> None:
    """The list of all projects, with the buttons that order it; nothing while it is empty."""
    workspace = project.workspace
    now = queue.items(workspace)
    if not now:
        return
    queue.wake(workspace)
    waits = [i.id for i in now if i.state == "waiting"]
    st.markdown(
        "**Queue**",
        help="One run trains at a time on each graphics card. The list outlives a restart of the computer.",
    )
    with st.container(border=True, gap="xsmall", key="queue"):
        for item in now:
            colour, icon, words = LOOK[item.state]
            place = waits.index(item.id) + 1 if item.id in waits else 0
            with caught(), st.container(horizontal=True, vertical_alignment="center", key=f"q_{item.id}"):
                number = f"{place}. " if place else ""
                st.markdown(f"{colour}[{icon}] {number}{item.title} :gray[{words}]", width="stretch")
                if place:
                    for label, sign, to, off in (
                        ("Earlier", "arrow_upward", place - 1, place == 1),
                        ("Later", "arrow_downward", place + 1, place == len(waits)),
                    ):
                        st.button(label, key=f"q_{label}_{item.id}", icon=f":material/{sign}:", type="tertiary", disabled=off,
                                  on_click=act, args=(queue.move, workspace, item.id, to))  # fmt: skip
                if place or item.over:
                    st.button("Remove", key=f"q_out_{item.id}", icon=":material/close:", type="tertiary",
                              on_click=act, args=(queue.remove, workspace, item.id))  # fmt: skip
            if item.why:
                st.caption(item.why)
