"""What this computer can do, the engines, the base models, and the room that everything takes."""

from pathlib import Path

import streamlit as st

from pages.parts.comfyui_card import comfyui_card
from pages.parts.context import workspace
from pages.parts.measuring_card import measuring_models
from pages.parts.nav import PAGES, link
from pages.parts.page import caught, page
from pages.parts.setup_models import FAMILY_WORDS, base_models
from pages.parts.setup_sdscripts import sdscripts_card
from studio import choices, environment, files, secrets
from studio.evaluation.registry import get_renderer, renderers
from studio.files import human_size
from studio.machine import Machine, detect, disk_free
from studio.training.registry import backends, get_backend

ABILITY = {
    "well": ":green[:material/check:]",
    "tight": ":orange[:material/compress:]",
    "slow": ":orange[:material/hourglass:]",
    "not": ":red[:material/close:]",
}
PARTS = {
    "projects": "Projects",
    "library": "Library",
    "models": "Base models",
    "backends": "Engines",
    "presets": "Presets",
    "trash": "Trash",
}


def and_words(items: list[str]) -> str:
    """ "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def this_computer(machine: Machine) -> None:
    """The computer in words: what it has, and what that is enough for."""
    st.subheader("This computer", anchor=False)
    with st.container(border=True, gap="small"):
        st.markdown(f"**{machine.words}**")
        for ability in choices.abilities(workspace(), machine):
            st.markdown(f"{ABILITY[ability.state]} {ability.words}")
        free = disk_free(workspace().root)
        low = free < 4 * environment.DISK_RESERVE
        st.markdown(
            f"{':orange[:material/warning:]' if low else ':green[:material/check:]'} {human_size(free)} free on the disk."
        )
        with st.expander("Versions"):
            st.table(
                {"Python": machine.python, "System": machine.system, **machine.packages}, border="horizontal"
            )


def replicate_card(title: str) -> None:
    """Replicate: whether its token is set and where, never the token; else the one step that is missing."""
    is_set, where = secrets.secret_state(workspace(), secrets.REPLICATE)
    with st.container(border=True, height="stretch", gap="xsmall", key="replicate_card"):
        st.markdown(f"**{title}** {':green-badge[token set]' if is_set else ':orange-badge[needs one step]'}")
        st.markdown(
            "Trains Stable Diffusion 3.5 Large and FLUX on rented computers. You see the cost before you start."
        )
        if is_set:
            st.caption(
                f"The token comes from: {where}. The environment gate asks Replicate whether it is taken."
            )
            return
        st.markdown(
            "Make a token at replicate.com/account/api-tokens and put it into a file of your workspace:"
        )
        st.code(f'[cloud]\n{secrets.REPLICATE} = "r8_..."', language="toml")
        st.caption(
            f"File: {workspace().root / '.streamlit' / 'secrets.toml'}. An environment variable of that name works too."
        )


def engines(machine: Machine) -> None:
    """What trains and what draws; each ready, or with the one thing that is missing."""
    st.subheader("Engines", anchor=False)
    missing = [p for p in environment.NEEDED if p not in machine.packages]
    for heading, does, found in (
        ("What trains", "Trains", backends()),
        ("What draws grids", "Draws grids and samples for", renderers()),
    ):
        st.markdown(f"**{heading}**")
        engine_cards(does, [(x.title, x.families) for x in found], missing)
    link("guide", "About engines", icon=":material/menu_book:", topic="backends")


def engine_cards(does: str, found: list[tuple[str, tuple[str, ...]]], missing: list[str]) -> None:
    """A card for each engine. does: what they do with the families of models. missing: packages of the built-in one."""
    with st.grid(2, min_column_width=320):
        for title, families in found:
            if title == get_backend("replicate").title:
                replicate_card(title)
                continue
            if title == get_renderer("comfyui").title:
                comfyui_card(and_words([FAMILY_WORDS.get(f, f) for f in families]))
                continue
            if title == get_backend("kohya").title:
                sdscripts_card(title, and_words([FAMILY_WORDS.get(f, f) for f in families]))
                continue
            with st.container(border=True, height="stretch", gap="xsmall"):
                state = ":red-badge[not ready]" if missing else ":green-badge[ready]"
                st.markdown(f"**{title}** {state}")
                st.markdown(f"{does} {and_words([FAMILY_WORDS.get(f, f) for f in families])}.")
                if missing:
                    st.markdown(f"Missing: {', '.join(missing)}. Install with:")
                    st.code("python -m pip install -r requirements.txt", language="bash")
                elif does == "Trains":
                    st.caption(
                        "Comes with the studio; needs nothing else. The environment gate tests it before each run."
                    )
                else:
                    st.caption("Comes with the studio; needs nothing else.")


@st.cache_data(ttl=30, show_spinner=False, max_entries=20)
def size_of(folder: str) -> int:
    """Bytes below a folder; remembered for half a minute, since it walks through every file."""
    return files.folder_size(Path(folder))


def storage() -> None:
    """Where everything lies, and how much room it takes."""
    st.subheader("Storage", anchor=False)
    ws = workspace()
    st.markdown(
        "Everything you make lies in one folder. Copy it and you have it all, except base models that you "
        "keep elsewhere."
    )
    st.code(str(ws.root), language=None, wrap_lines=True)
    sizes = {
        words: size_of(str(ws.root / name)) for name, words in PARTS.items() if (ws.root / name).is_dir()
    }
    if sizes:
        st.table(
            {**{k: human_size(v) for k, v in sizes.items()}, "Together": human_size(sum(sizes.values()))},
            border="horizontal",
        )
    st.caption(
        "Another place: set STUDIO_HOME before starting the studio. Removed things wait in its folder `trash`."
    )


with page(PAGES["setup"].title, PAGES["setup"].about):
    machine = detect()
    with caught():
        this_computer(machine)
    st.space("small")
    with caught():
        engines(machine)
    st.space("small")
    with caught():
        base_models()
    st.space("small")
    with caught():
        measuring_models()
    st.space("small")
    with caught():
        storage()
