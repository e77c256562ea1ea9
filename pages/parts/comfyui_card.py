"""ComfyUI on the set-up page: which servers are known, whether they answer, and a field for one more."""

from __future__ import annotations

import streamlit as st

from pages.parts.context import workspace
from pages.parts.page import caught, show_error
from studio.errors import StudioError
from studio.evaluation.comfyui import checking, servers
from studio.evaluation.comfyui.servers import Server
from studio.files import human_memory

_ADDED = "_comfyui_added"


@st.cache_data(ttl=20, show_spinner="Asking ComfyUI", max_entries=20)
def look(address: str, lora_folder: str) -> checking.State:
    """What a server is and has; remembered for 20 seconds, since the page is drawn anew at each click."""
    return checking.look_at(Server(address=address, lora_folder=lora_folder or None))


def states() -> list[checking.State]:
    """A look at each known server."""
    return [look(s.address, str(s.lora_folder or "")) for s in servers.load(workspace()).servers]


def comfyui_card(families: str) -> None:
    """The card. families: what it draws, in words."""
    found: list[checking.State] = []
    with st.container(border=True, height="stretch", gap="xsmall", key="comfyui_card"):
        with caught():
            found = states()
        ready = sum(s.is_ready for s in found)
        state = (
            ":green-badge[ready]"
            if ready
            else ":orange-badge[needs one step]"
            if found
            else ":gray-badge[not set up]"
        )
        st.markdown(f"**ComfyUI** {state}")
        st.markdown(
            f"Draws grids for {families}, on a ComfyUI that runs already. Several servers share a grid."
        )
        for server in found:
            _server(server)
        if st.session_state.pop(_ADDED, False):
            for key in ("comfyui_address", "comfyui_folder"):
                st.session_state[key] = ""
        # Emptied once the server is on the list, and not by each press: what was typed stays to be corrected.
        with st.form("comfyui_add", border=False):
            address = st.text_input(
                "Address of a server",
                key="comfyui_address",
                placeholder=f"http://localhost:{servers.DEFAULT_PORT}",
                help="ComfyUI shows it when it starts. A server on another computer must be started with --listen.",
            )
            folder = st.text_input(
                "Its LoRA folder",
                key="comfyui_folder",
                placeholder="only for a server on another computer",
                help="The server's folder models/loras as this computer sees it. Without it you copy LoRA files there by hand.",
            )
            sent = st.form_submit_button("Add server", icon=":material/add:")
        if sent:
            _add(address or "", folder or "")


def _server(state: checking.State) -> None:
    address = state.server.address
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        mark = ":green[:material/check:]" if state.is_ready else ":orange[:material/warning:]"
        memory = f", {human_memory(state.memory)}" if state.memory else ""
        words = f"{state.version} on {state.device}{memory}" if state.version else "does not answer"
        st.markdown(f"{mark} `{state.server.name}` · {words}", width="stretch")
        st.button(
            "Take off the list",
            key=f"comfyui_forget_{address}",
            type="tertiary",
            icon=":material/remove:",
            on_click=_forget,
            args=(address,),
        )
    for finding in state.findings:
        st.caption(f"{finding.why or finding.what} {finding.fix}".strip())
    if state.is_ready:
        where = state.lora_folder or "out of reach from here: copy LoRA files there by hand"
        st.caption(f"LoRA folder: {where}")


def _add(address: str, folder: str) -> None:
    from pathlib import Path

    try:
        servers.add_server(workspace(), address, Path(folder.strip()) if folder.strip() else None)
    except StudioError as e:
        show_error(e)
        return
    look.clear()
    st.session_state[_ADDED] = True
    st.rerun()


def _forget(address: str) -> None:
    with caught():
        servers.forget_server(workspace(), address)
        look.clear()
