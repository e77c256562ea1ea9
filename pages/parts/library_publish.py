"""Publishing to the hub: the card and the files are shown, then sent at a click."""

import streamlit as st

from pages.parts.context import workspace
from pages.parts.findings import show_findings
from pages.parts.library_panels import head, privacy_choice
from pages.parts.live_job import live_job
from pages.parts.next import primary
from pages.parts.page import show_error
from pages.parts.words import plain
from studio.errors import StudioError
from studio.files import human_size
from studio.library.entry import LibraryEntry
from studio.library.hub.licences import OFFERED
from studio.library.hub.publication import Publication, publication, published
from studio.library.hub.tasks import publish_jobs, start_publish, token_state
from studio.lora import privacy

SENT = "library_sent"


def publish_panel(entry: LibraryEntry) -> None:
    """Where to, with which licence, what would be sent; then the button."""
    head(f"Publish {plain(entry.title)} to the Hugging Face hub")
    if _job(entry):
        return
    before = published(workspace(), entry)
    left, right = st.columns(2)
    repo = left.text_input("Repository", str(before[-1].get("repo", "")) if before else "", key="publish_repo",
                           placeholder="account/name", help="Your account or organisation, a slash, and a name.")  # fmt: skip
    licence = right.selectbox("Licence", ["", *OFFERED], key="publish_licence",
                              format_func=lambda x: x or "As the base model's")  # fmt: skip
    who = left.segmented_control("Who can see it", ["private", "public"], default="private", required=True, key="publish_who",
                                 format_func={"private": "Only you", "public": "Everybody"}.__getitem__)  # fmt: skip
    count = right.slider("Pictures on the card", 0, 6, 4, key="publish_pictures")
    out = privacy_choice("publish")
    st.caption("Folder names and paths never go along, whatever is chosen.")
    if not (repo or "").strip():
        primary(
            "Publish", key="publish_go", icon=":material/cloud_upload:", blocked="Name the repository first."
        )
        return
    try:
        what = publication(workspace(), entry, repo or "", private=who != "public", licence=licence or "", leave_out=out, most_pictures=count)  # fmt: skip
    except StudioError as e:
        show_error(e)
        return
    _looked_at(what)
    update = st.checkbox("It may be there already: update it", key="publish_update") if not before else True
    there, where = token_state(workspace())
    if there:
        st.caption(f"Signed in with the token from: {plain(where)}.")
    label = f"Send {human_size(what.size_bytes)} to {what.repo}, {'visible only to you' if what.private else 'visible to everybody'}"
    blocked = "" if there else "No token is set. Set HF_TOKEN to one that may write."
    if primary(
        label,
        key="publish_go",
        icon=":material/cloud_upload:",
        blocked=blocked,
        mend_on="setup",
        mend_label="Set-up",
    ):
        try:
            job = start_publish(
                workspace(),
                entry,
                what,
                licence=licence or "",
                leave_out=out,
                most_pictures=count,
                update=bool(update),
            )
        except StudioError as e:
            show_error(e)
            return
        privacy.remember(workspace(), out)
        st.session_state[SENT] = job.id
        st.rerun()


def _job(entry: LibraryEntry) -> bool:
    """The job that was started here; True while it is what there is to see."""
    wanted = st.session_state.get(SENT)
    running = [j for j in publish_jobs(workspace()) if j.id == wanted or j.is_alive]
    if not running:
        return False
    job = running[0]
    live_job(job, key="publishing", stop_label="Stop sending")
    result = job.result if job.state == "finished" else None
    if result:
        st.markdown(f":green[:material/check:] It is at [{plain(str(result['repo']))}]({result['url']}).")
    if not job.is_alive:
        st.button("Back to the form", key="publish_again", icon=":material/arrow_back:", on_click=_forget)
    return True


def _forget() -> None:
    st.session_state.pop(SENT, None)


def _looked_at(what: Publication) -> None:
    """The last look: files, cautions, and the card as it would stand there."""
    st.markdown("**This would be sent**")
    st.table(
        {"File": [f"`{f.path}`" for f in what.files], "Size": [human_size(f.size) for f in what.files], "What": [plain(f.what) for f in what.files]},
        border="horizontal", hide_index=True,
    )  # fmt: skip
    if what.cautions:
        show_findings(list(what.cautions), key="publish_cautions")
    with st.expander("The model card", icon=":material/article:", key="publish_card", expanded=True):
        st.code(what.card, language="markdown", wrap_lines=True, height=420)
