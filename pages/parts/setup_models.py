"""Base models on the Set-up page: what is here, downloads, and adding one of the user's own."""

from pathlib import Path

import streamlit as st

from pages.parts.context import workspace
from pages.parts.findings import show_findings
from pages.parts.flash import act, say
from pages.parts.live_job import live_job
from pages.parts.page import show_error
from studio import models, secrets
from studio.basemodels.download import HUB, start_download
from studio.basemodels.holdings import Holding, holding, remove, words
from studio.errors import StudioError
from studio.files import human_size
from studio.models import BaseModelEntry

FAMILY_WORDS = {
    "pocket": "the pocket model",
    "sd15": "SD1.5",
    "sdxl": "SDXL",
    "sd35": "SD3.5",
    "flux": "FLUX",
}
BADGES = {
    "ready": ":green-badge[ready]",
    "rented": ":blue-badge[rented]",
    "downloading": ":blue-badge[being downloaded]",
    "partly": ":orange-badge[partly here]",
    "other-file": ":orange-badge[another file]",
    "absent": ":gray-badge[not here]",
}


def base_models() -> None:
    """Those that are here or on their way first, then the others, and a form for one of the user's own."""
    st.subheader("Base models", anchor=False)
    ws = workspace()
    known = [holding(ws, m) for m in models.list_models(ws)]
    first = [h for h in known if h.state != "absent" or h.entry.path is not None]
    with st.grid(2, min_column_width=320):
        for now in first:
            model_card(now)
    absent = [h for h in known if h not in first]
    if absent:
        with (
            st.expander(f"{len(absent)} more that you can get", key="more_models"),
            st.grid(2, min_column_width=300),
        ):
            for now in absent:
                model_card(now)
    add_model()


def model_card(now: Holding) -> None:
    """One base model: here or not, its licence, and the button that gets it."""
    entry, ws = now.entry, workspace()
    with st.container(border=True, height="stretch", gap="xsmall", key=f"model_{entry.id}"):
        st.markdown(f"**{entry.title}** {BADGES[now.state]}")
        if entry.summary:
            st.markdown(f":small[{entry.summary}]")
        size = entry.download_bytes or entry.size_bytes
        parts = [
            FAMILY_WORDS.get(entry.family, entry.family),
            f"{entry.resolution} px",
            f"captions: {entry.caption_style}",
        ]
        parts += [human_size(size)] if size else []
        st.caption(f"{' · '.join(parts)}  \nLicence: {entry.licence}")
        if now.state == "downloading" and now.job is not None:
            live_job(now.job, key=f"download_{entry.id}", stop_label="Stop", details=False)
            return
        _trouble(now)
        if entry.files and now.state != "ready":
            _get(now)
        elif entry.files:
            st.button("Remove", key=f"remove_{entry.id}", type="tertiary", icon=":material/delete:", on_click=act,
                      args=(_remove, entry.id), help="Moves its files to the trash.")  # fmt: skip
        elif entry.path is not None:
            st.code(str(entry.path), language=None, wrap_lines=True)
            st.button("Take off the list", key=f"forget_{entry.id}", type="tertiary", icon=":material/remove:", on_click=act,
                      args=(models.forget_local_model, ws, entry.id), help="The file itself stays where it is.")  # fmt: skip


def _trouble(now: Holding) -> None:
    """What is wrong with the files, or why the last download did not end well."""
    entry = now.entry
    job = now.job
    if now.state in ("partly", "absent") and job is not None and job.state == "failed":
        told = job.error or {}
        st.error(f"{told.get('why', '')}\n\n**What to do:** {told.get('fix', '')}", icon=":material/error:",
                 title=str(told.get("what") or "The download failed"))  # fmt: skip
    elif now.state == "other-file":
        st.warning(f"{', '.join(p.name for p in now.wrong)} has another size than the original: a download that broke off, or another "
                   "version. Remove it, or move it away.", icon=":material/warning:", title="Another file stands in its place")  # fmt: skip
    elif now.state == "ready" or entry.path is not None:
        show_findings(models.file_findings(workspace(), entry), key=f"model_findings_{entry.id}")


def _get(now: Holding) -> None:
    entry, ws = now.entry, workspace()
    if now.state == "other-file":
        st.button("Remove that file", key=f"remove_{entry.id}", icon=":material/delete:", on_click=act, args=(_remove, entry.id),
                  help="Moves it to the trash.")  # fmt: skip
        return
    if len(entry.files) > 1:
        st.caption(f"{len(entry.files)} files: {', '.join(f.name for f in entry.files)}")
    signed_in, _ = secrets.secret_state(ws, secrets.HUGGING_FACE)
    if entry.gated and not signed_in:
        repo = next(f.repo for f in entry.files if f.gated)
        with st.expander("Needs a Hugging Face account", key=f"gated_{entry.id}", icon=":material/key:"):
            st.markdown(f"1. Sign in and accept the licence: [{repo}]({HUB}/{repo})\n2. Make a token of the kind *read*: "
                        f"[settings]({HUB}/settings/tokens)\n3. Put it into this file, then reload this page:")  # fmt: skip
            st.code(f'[cloud]\n{secrets.HUGGING_FACE} = "hf_..."', language="toml")
            st.caption(
                f"`{ws.root / '.streamlit' / 'secrets.toml'}`. An environment variable of that name works too."
            )
        return
    label = "Go on" if now.state == "partly" else "Download"
    st.button(f"{label} · {human_size(now.bytes_left)}", key=f"get_{entry.id}", icon=":material/download:", on_click=act,
              args=(start_download, ws, entry.id), help=words(now).capitalize() + ".")  # fmt: skip


def _remove(model_id: str) -> None:
    places = remove(workspace(), model_id)

    def back() -> None:
        for place in places:
            workspace().put_back(place)

    say(f"{', '.join(p.name for p in places)}: in the trash.", undo=back)


def add_model() -> None:
    """Add a base model that lies on this computer."""
    with st.form("add_model", clear_on_submit=False):
        st.markdown("**Add one that you have**")
        st.caption("A .safetensors file of SD1.5, SDXL, SD3.5 Large or FLUX.1 dev, or a folder in diffusers' layout. It stays where it "
                   "is; which family it is gets read from the file.")  # fmt: skip
        path = st.text_input(
            "Path on this computer", key="model_path", placeholder="/home/me/models/my-model.safetensors"
        )
        left, middle, right = st.columns(3)
        title = left.text_input("Name", key="model_title", placeholder="as the file is called")
        style = middle.selectbox("Captions", ["", "sentences", "tags"], key="model_style",
                                 format_func=lambda s: s or "as usual for its family")  # fmt: skip
        kinds = {"": "as the file says", "epsilon": "noise (epsilon)", "v_prediction": "v-prediction"}
        kind = right.selectbox("Predicts", list(kinds), key="model_prediction", format_func=lambda k: kinds[k],
                               help="Only when its page says so and the file does not.")  # fmt: skip
        sent = st.form_submit_button("Add this model", icon=":material/add:")
    if not sent:
        return
    if not (path or "").strip():
        st.warning("Type the full path of the file or folder.", title="No path was given")
        return
    try:
        place = Path(str(path).strip().strip("'\""))
        entry = models.add_local_model(workspace(), place, title or "", style or "", prediction=kind or "")
    except StudioError as e:
        show_error(e)
        return
    st.toast(f"{entry.title} was added as a {family_words(entry)} model.", icon=":material/check:")
    st.rerun()


def family_words(entry: BaseModelEntry) -> str:
    """The family as people call it."""
    return FAMILY_WORDS.get(entry.family, entry.family)
