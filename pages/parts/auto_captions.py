"""Captions by an engine, step by step: choose it, look at five samples, let it write the rest.

Only draws and calls: what may be started, and when, is decided in studio.captions.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts import auto_choices
from pages.parts.flash import act, say
from pages.parts.gallery import short
from pages.parts.live_job import is_running, live_job
from pages.parts.previews import preview_url
from pages.parts.words import plain
from studio.captions import auto, samples
from studio.captions.auto import Ready
from studio.captions.batch import BATCH, SAMPLES, last_job, plan, start_batch, start_samples
from studio.captions.recaption import MODES
from studio.captions.samples import ReviewState, Sample
from studio.captions.store import CaptionStore
from studio.dataset.scan import scan
from studio.errors import StudioError
from studio.files import human_time
from studio.guidance import count_words
from studio.jobs.job import Job
from studio.project import Project

_STATE = {
    "approved": ":green-badge[:material/check: approved]",
    "adjusted": ":green-badge[:material/edit: adjusted]",
    "skipped": ":gray-badge[:material/remove: skipped]",
}
ERRORS_SHOWN = 6


def auto_captions(project: Project) -> None:
    """The three steps, each shown when its turn has come; a job that is at work stands above everything."""
    job = last_job(project)
    if job is not None and is_running(job):
        _at_work(job)
        return
    if job is not None:
        _ended(project, job)
    _head(1, "Choose what writes", "")
    auto_choices.draw(project)
    try:
        engine = auto.ready(project)
    except StudioError as e:
        auto_choices.not_ready(project, e)
        return
    review = samples.state(project, engine)
    if where := auto.sent_to(engine.auto):
        st.caption(
            f":material/cloud_upload: The pictures are sent to {plain(where, 100)}, small and without their EXIF data."
        )
    st.divider()
    _second(project, engine, review)
    if review.passed:
        st.divider()
        _third(project, engine)


def _head(number: int, title: str, state: str) -> None:
    st.markdown(f"**{number} · {title}**" + (f" {state}" if state else ""))


# --- while something runs, and after


def _at_work(job: Job) -> None:
    kind = str(job.raw.get("kind"))
    words = (
        "Five samples are being made."
        if kind == SAMPLES
        else "Captions are being written; you may leave this page."
    )
    st.markdown(f":gray[{words}]")
    live_job(job, key="auto_job", stop_label="Stop", draw=_errors if kind == BATCH else None)


def _ended(project: Project, job: Job) -> None:
    """What came of the last job, until another begins or the user closes it."""
    closed = f"auto_closed_{job.id}"
    if st.session_state.get(closed):
        return
    state, kind = job.state, str(job.raw.get("kind"))
    if state in ("failed", "interrupted"):
        error = job.error or {}
        what = str(error.get("what") or "The work was cut off.")
        kept = "What was made so far is kept; started again, it goes on where it was."
        st.error(
            "\n\n".join(
                str(p)
                for p in (
                    error.get("why"),
                    f"**What to do:** {error['fix']}" if error.get("fix") else "",
                    kept,
                )
                if p
            ),
            title=what,
            icon=":material/error:",
        )
        _errors(job)
    elif kind == BATCH and isinstance(job.result, dict):
        _result(job)
    else:
        return
    st.button(
        "Close", key="auto_close", type="tertiary", on_click=st.session_state.__setitem__, args=(closed, True)
    )


def _result(job: Job) -> None:
    told: dict[str, Any] = job.result
    words = [f"**{count_words(int(told.get('written', 0)), 'caption')} written**"]
    words += [f"{told['kept']} kept, because a person wrote them"] if told.get("kept") else []
    words += [f"{told['left']} not reached"] if told.get("left") else []
    icon = ":orange[:material/pause_circle:]" if told.get("left") else ":green[:material/check:]"
    st.markdown(
        f"{icon} "
        + " · ".join(words)
        + f" :gray[in {human_time(float(told.get('seconds', 0)))}. Undo takes all of them back.]"
    )
    _troubles(list(told.get("errors", [])))


def _errors(job: Job) -> None:
    """Pictures that failed so far."""
    events, _ = job.events()
    _troubles([e for e in events if e.get("type") == "trouble"])


def _troubles(found: list[dict[str, Any]]) -> None:
    if not found:
        return
    box = st.expander(
        f"{count_words(len(found), 'picture')} without a caption",
        icon=":material/warning:",
        key="auto_errors",
    )
    with box:
        for e in found[:ERRORS_SHOWN]:
            told = " ".join(plain(str(e.get(k, "")), 300) for k in ("why", "fix") if e.get(k))
            st.markdown(f"**{plain(str(e.get('what', '')), 200)}** :gray[{told}]")
        if len(found) > ERRORS_SHOWN:
            st.caption(f"and {len(found) - ERRORS_SHOWN} more")


# --- five samples


def _second(project: Project, engine: Ready, review: ReviewState) -> None:
    done = ":green-badge[:material/check: looked at]" if review.passed else ""
    _head(2, "Look at five samples", done)
    if review.state in ("none", "stale"):
        st.caption(
            "Five pictures that differ get a caption first, and you say whether it is right."
            if review.state == "none"
            else f"{review.words} The new captions would be others, so five new samples are needed."
        )
        st.button("Make five samples", key="auto_samples", type="primary", icon=":material/auto_awesome:",
                  on_click=act, args=(_make_samples, project))  # fmt: skip
        return
    assert review.samples is not None
    if review.state == "refused":
        st.warning(
            "Change the choices above, then make five new samples.",
            title=review.words,
            icon=":material/thumb_down:",
        )
    box = st.expander("The five samples", key="auto_seen") if review.passed else st.container()
    with box:
        st.caption(
            f"Approve what is right, or change the words and press Adjust. `{project.intent.trigger}` is put in front by itself."
        )
        for n, sample in enumerate(review.samples.items):
            _sample(project, sample, n, first=not review.passed and sample in review.samples.open[:1])
    st.button("Make five other samples", key="auto_again", type="tertiary", icon=":material/refresh:",
              on_click=act, args=(_make_samples, project))  # fmt: skip


def _make_samples(project: Project) -> None:
    for key in [k for k in st.session_state if str(k).startswith("auto_text_")]:
        del st.session_state[key]
    start_samples(project)


def _sample(project: Project, sample: Sample, n: int, *, first: bool) -> None:
    """One picture with the caption proposed for it, and the three verdicts."""
    with st.container(border=True, key=f"auto_sample_{n}"):
        left, right = st.columns([2, 5], gap="medium", vertical_alignment="top")
        picture = scan(project).get(sample.name)
        with left:
            if picture is not None and not picture.error and not sample.trouble:
                st.image(preview_url(project, picture), width="stretch", alt=sample.proposal.caption)
            else:
                st.markdown(":red[:material/broken_image:]")
            st.caption(short(sample.name, 30))
        with right:
            if sample.trouble:
                st.markdown(f":orange[:material/warning:] {plain(sample.trouble, 400)}")
                if sample.verdict:
                    st.markdown(_STATE[sample.verdict])
                else:
                    st.button(
                        "Skip",
                        key=f"auto_skip_{n}",
                        on_click=act,
                        args=(_judge, project, sample.name, "skipped"),
                    )
                return
            _proposed(project, sample, n, first)


def _proposed(project: Project, sample: Sample, n: int, first: bool) -> None:
    key = f"auto_text_{sample.name}"
    if key not in st.session_state:
        st.session_state[key] = sample.text or sample.proposal.caption
    st.text_area("Caption", key=key, height=110, help="Change it as it should be, then press Adjust.",
                 label_visibility="visible" if n == 0 else "collapsed")  # fmt: skip
    st.caption(f":material/lock: `{project.intent.trigger}` is put in front by itself.")
    if sample.proposal.content:
        st.markdown(f":small[**Content** {plain(', '.join(sample.proposal.content), 400)}]")
    if sample.proposal.style:
        st.markdown(f":small[**Style** {plain(', '.join(sample.proposal.style), 400)}]")
    typed = str(st.session_state[key]).strip()
    changed = typed != (sample.text or sample.proposal.caption)
    with st.container(horizontal=True, vertical_alignment="center"):
        if sample.verdict and not changed:
            st.markdown(_STATE[sample.verdict])
        if not sample.verdict or changed:
            label, verdict = ("Adjust", "adjusted") if changed else ("Approve", "approved")
            st.button(label, key=f"auto_ok_{n}", type="primary" if first else "secondary", icon=":material/check:",
                      on_click=act, args=(_judge, project, sample.name, verdict, key))  # fmt: skip
        if not sample.verdict:
            st.button("Skip", key=f"auto_skip_{n}", type="tertiary", on_click=act,
                      args=(_judge, project, sample.name, "skipped"))  # fmt: skip


def _judge(project: Project, name: str, verdict: Any, key: str = "") -> None:
    text = str(st.session_state.get(key, "")) if key else ""
    samples.review(project, name, verdict, text if verdict == "adjusted" else "")


# --- the rest


def _third(project: Project, engine: Ready) -> None:
    _head(3, "Write the rest", "")
    mode = st.radio("Captions that are there", list(MODES), key="auto_mode", index=list(MODES).index(engine.auto.mode),
                    format_func=lambda m: MODES[m], horizontal=True,
                    help="Words that a person wrote or corrected are never replaced.")  # fmt: skip
    if mode != engine.auto.mode:
        auto.save(project, engine.auto.model_copy(update={"mode": mode}))
        engine = auto.ready(project)
    todo = plan(project, engine)
    _also(project, engine, todo.plan.imported, todo.plan.approved)
    counts = todo.plan.counts
    with st.container(horizontal=True, gap="large"):
        st.metric("Will be written", counts["write"])
        st.metric("Kept", counts["kept"], help="A person wrote, corrected or chose these words.")
        st.metric("There already", counts["there"], help="This engine wrote them with these settings.")
    if not counts["write"]:
        st.caption("Nothing is left to write.")
        return
    st.button(todo.label, key="auto_run", type="primary", icon=":material/edit_note:", on_click=act,
              args=(_run, project))  # fmt: skip
    st.caption("They are marked as needing review, and one undo takes all of them back.")


def _also(project: Project, engine: Ready, imported: tuple[str, ...], approved: tuple[str, ...]) -> None:
    """Offer what may be opened for replacing, where there is something of that kind."""
    own = set(engine.auto.also)
    offers = {
        "imported": (len(imported), "Replace captions that came with the pictures"),
        "approved": (len(approved), "Replace engines' captions that you approved"),
    }
    wanted = set(own)
    for name, (count, words) in offers.items():
        if engine.auto.mode == "replace" and (count or name in own):
            label = f"{words} ({count})" if count else words
            ticked = st.checkbox(label, key=f"auto_also_{name}", value=name in own)
            wanted = wanted | {name} if ticked else wanted - {name}
    if wanted != own:
        auto.save(project, engine.auto.model_copy(update={"also": tuple(sorted(wanted))}))
        st.rerun()


def _run(project: Project) -> None:
    start_batch(project)
    if CaptionStore(project).trigger:
        st.session_state.pop("auto_mode", None)
    say("Writing captions. You may close the page; it goes on by itself.")
