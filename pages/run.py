"""Pass the four gates, train, watch it learn, and see what came out."""

import streamlit as st

from pages.parts.context import require_project
from pages.parts.explain_log import explain_log, explain_own
from pages.parts.findings import show_findings
from pages.parts.flash import act
from pages.parts.gates_view import gates_to_pass, queue_gates
from pages.parts.live_job import is_running, log_of
from pages.parts.nav import PAGES, go
from pages.parts.next import primary, what_next
from pages.parts.page import caught, page
from pages.parts.run_body import curve, curve_every, figures, oddities, told_so_far
from pages.parts.run_history import history, open_run
from pages.parts.run_more import run_again, system_line
from pages.parts.run_queue import queue_button, queue_view
from pages.parts.run_resume import resume
from pages.parts.run_words import STATE_LOOK, day
from studio import choices, compare, gates, launch
from studio.errors import NotFoundError
from studio.files import human_size, human_time
from studio.findings import Finding
from studio.guidance import count_words
from studio.jobs.job import Job
from studio.project import Project
from studio.training import record
from studio.training.base import Checkpoint
from studio.training.progress import Metrics
from studio.training.registry import is_rented
from studio.training.replicate import cost_words
from studio.training.runs import Run, get_run, list_runs

# --- before: the gates


def start(project: Project) -> None:
    """The start button, named after what it costs."""
    told = gates.forecast(project)
    cost = f" · about {human_time(told.seconds)}" if told.seconds is not None else ""
    dollars = cost_words(project.settings, choices.entry_of(project).family, told.steps.total_steps)
    if dollars:
        cost = f" · {dollars.partition(' (')[0]}".replace("$", "\\$")
    if primary(f"Start training{cost}", key="start", icon=":material/play_arrow:"):
        with caught():  # what follows stays on the page when the start is refused
            run = launch.start_training(project)
            open_run(run.id)
            st.rerun()
    st.button("Check everything again", key="check_again", type="tertiary", icon=":material/refresh:", on_click=act,
              args=(queue_gates, project, True))  # fmt: skip
    what_next(
        f"{told.steps.total_steps} steps on a rented computer; its LoRA lands here at the end."
        if dollars
        else f"{told.steps.total_steps} steps in {told.steps.epochs} epochs; a checkpoint is saved on the way.",
        "It goes on when you close this page, and when this computer is switched off. Stopping it ends it."
        if dollars
        else "It goes on when you close this page, and you can stop and resume it.",
        "Then you compare weights and choose the best one.",
    )


# --- while and after


def technical(run: Run) -> None:
    """The log and, where it is one of sd-scripts, what it says in words."""
    own = run.settings.backend == "kohya"
    key = f"run_{run.id}"
    log_of(run.job, key=key, below=(lambda job: explain_own(job, key)) if own else None)


def live(project: Project, run: Run) -> None:
    """A run that is going on: its figures are drawn anew each second, its curve and its log more seldom, as they cost more."""
    stopping = run.job.state == "stopping"

    @st.fragment(run_every=1.0)
    def view() -> None:
        with caught():
            if not is_running(run.job):
                st.rerun()
            if run.job.state == "stopping" and not stopping:
                st.rerun()
            metrics = told_so_far(run)
            progress = run.job.progress
            words = (
                "Stopping, after saving its state"
                if run.job.state == "stopping"
                else progress.message or "Starting"
            )
            st.progress(min(1.0, max(0.0, progress.fraction or 0.0)), text=words)
            system_line(run, metrics)
            figures(run, metrics)
            oddities(run, metrics)

    @st.fragment(run_every=curve_every(run))
    def over_time() -> None:
        with caught():
            curve(run, told_so_far(run))
            technical(run)

    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":blue[:material/progress_activity:] **Training** :gray[{run.id}]", width="stretch")
        if stopping:
            # In place of the popover, so that it closes.
            st.button("Stopping…", key="stopping", icon=":material/stop_circle:", disabled=True)
        else:
            with st.popover("Stop", icon=":material/stop_circle:", key="stop_box"):
                st.markdown(
                    "This ends the training at Replicate. What it has cost so far is lost, and nothing comes out of it."
                    if is_rented(run.settings.backend)
                    else "It finishes its step and saves its state, so that you can resume it later."
                )
                st.button(
                    "Stop training", key="stop_now", type="primary", on_click=act, args=(launch.stop_run, run)
                )
    view()
    over_time()
    what_next("You can close this page; training goes on.", "When it ends, you see here what came out.")


def goes_on_elsewhere(run: Run) -> None:
    """Draw the page anew once the run is resumed in another window or at the command line: here nothing else would."""

    @st.fragment(run_every=2.0)
    def watch() -> None:
        if is_running(run.job):
            st.rerun()

    watch()


def ended(project: Project, run: Run, runs: list[Run]) -> None:
    """A run that has ended: how, what came out, what was different from the one before, what to do next."""
    record.catch_up(run)
    metrics, job = told_so_far(run), run.job
    checkpoints = run.checkpoints()
    colour, icon = STATE_LOOK.get(job.state, ("gray", ":material/help:"))
    st.markdown(f":{colour}[{icon}] **{verdict_words(run, metrics, checkpoints)}**")
    st.caption(f"{day(job.created)} · {run.id}")
    if job.state in ("failed", "interrupted", "stopped"):
        trouble(job)
    if job.state == "finished":
        primary_evaluate(run)
    elif run.resumable:
        resume(project, run, bool(checkpoints))
    st.space("small")
    figures(run, metrics)
    oddities(run, metrics)
    curve(run, metrics)
    came_out(run, checkpoints)
    against_previous(run, runs)
    run_again(project, run)
    technical(run)
    further = {
        "finished": "",
        "stopped": "Resume it, or start a new run."
        if run.resumable
        else "Start a new run whenever you like.",
        "interrupted": "Resume it; it goes on from its last saved state."
        if run.resumable
        else "Start a new run.",
    }.get(job.state, "Mend what stopped it, then resume or start again.")
    judged = "Evaluation draws the same prompts at several weights, so that you can choose the best one."
    what_next(*filter(None, (further, judged if checkpoints else "")))
    if job.state != "finished":
        goes_on_elsewhere(run)


def verdict_words(run: Run, metrics: Metrics, checkpoints: list[Checkpoint]) -> str:
    """How the run went, in one sentence."""
    told = compare.outcome(run, metrics)
    if run.job.state == "finished":
        took = f" in {human_time(told.seconds)}" if told.seconds else ""
        return f"Training finished: {told.steps} steps{took}, {count_words(len(checkpoints), 'checkpoint')}."
    ways = {
        "failed": "Training failed",
        "stopped": "You stopped the training",
        "interrupted": "Training was interrupted",
    }
    kept = f"; it left {count_words(len(checkpoints), 'checkpoint')}" if checkpoints else ""
    return f"{ways.get(run.job.state, 'Training ended')} at step {told.steps} of {told.total_steps}{kept}."


def trouble(job: Job) -> None:
    """Why it did not finish, and what to do."""
    error = job.error
    if job.state == "stopped" or not error:
        return
    fix = f"\n\n**What to do:** {error['fix']}" if error.get("fix") else ""
    show = st.error if job.state == "failed" else st.warning
    show(
        f"{error.get('why', '')}{fix}",
        title=str(error.get("what") or "It ended too early"),
        icon=":material/error:",
    )
    more = [
        f for f in map(Finding.model_validate, error.get("findings") or []) if f.what != error.get("what")
    ]
    if more:
        show_findings(more, key=f"why_{job.id}")


def primary_evaluate(run: Run) -> None:
    """Go on to the grid."""
    if primary("Evaluate this run", key="evaluate", icon=":material/grid_view:"):
        go("evaluation", run=run.id)


def came_out(run: Run, checkpoints: list[Checkpoint]) -> None:
    """The LoRA files, each to be downloaded."""
    if not checkpoints:
        return
    st.markdown(
        "**What came out**",
        help="Each is a whole LoRA. The last is not always the best one; the grid shows it.",
    )
    with st.container(border=True, gap="xsmall"):
        for c in reversed(checkpoints):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"{c.label[0].upper()}{c.label[1:]} :gray[step {c.step} · {human_size(c.path.stat().st_size)}]",
                            width="stretch")  # fmt: skip
                st.download_button(
                    "Download", c.path.read_bytes, file_name=c.path.name, key=f"get_{run.id}_{c.path.name}",
                    mime="application/octet-stream", on_click="ignore", icon=":material/download:", type="tertiary",
                )  # fmt: skip
        st.code(str(checkpoints[-1].path), language=None, wrap_lines=True)


def against_previous(run: Run, runs: list[Run]) -> None:
    """What was different from the run before, and with what result."""
    before = compare.previous(run, runs)
    if before is None:
        return
    st.markdown(f"**Compared with the run before** :gray[{day(before.job.created)}, {before.job.state}]")
    found = compare.differences(before, run)
    if found:
        st.table([{"What": d.what, "Before": d.before, "This run": d.after} for d in found], border="horizontal",
                 hide_index=True)  # fmt: skip
    else:
        st.caption("Nothing was different: same pictures, captions, settings and versions.")
    old, new = compare.outcome(before), compare.outcome(run)
    if old.last_loss is not None and new.last_loss is not None:
        st.caption(f"Loss at the end: {old.last_loss:.3f} before, {new.last_loss:.3f} now. It does not say which LoRA is better; "
                   "the grid does.")  # fmt: skip


def chosen_run(project: Project, runs: list[Run]) -> Run | None:
    """The run in the address, else the newest."""
    asked = st.query_params.get("run", "")
    if asked:
        try:
            return get_run(project, asked)
        except NotFoundError as e:
            st.warning(f"{e.why} {e.fix}", title=e.what)
    return runs[0] if runs else None


def view_names(runs: list[Run]) -> dict[str, str]:
    """The views of the page, each called what it shows: the run in the address may be any of them."""
    asked = st.query_params.get("run", "")
    shown = next((r for r in runs if r.id == asked), runs[0])
    going = next((r for r in runs[:3] if is_running(r.job)), None)
    names = {"prepare": "Prepare a run"}
    if shown == going:
        names["watch"] = "Training now"
    else:
        names["watch"] = "Last run" if shown == runs[0] else f"Run of {day(shown.job.created)}"
        if going is not None:
            names["going"] = "Training now"
    return {**names, "history": f"History ({len(runs)})"}


def chosen_view(runs: list[Run]) -> str:
    """The switch between the views of the page, and which is chosen."""
    names = view_names(runs)
    asked = st.session_state.pop("run_next_view", "")
    if asked or st.session_state.get("run_view") not in names:
        st.session_state["run_view"] = asked or "watch"
    view = st.segmented_control("View", list(names), key="run_view", format_func=names.__getitem__, required=True,
                                label_visibility="collapsed", persist_state="page") or "watch"  # fmt: skip
    st.space("xsmall")
    if view == "going":
        open_run(next(r.id for r in runs[:3] if is_running(r.job)))
        st.rerun()
    return str(view)


project = require_project()
with page(PAGES["run"].title, PAGES["run"].about, project=project, step="run"):
    runs = list_runs(project)
    view = chosen_view(runs) if runs else "prepare"
    run = chosen_run(project, runs) if view == "watch" else None
    if view == "history":
        history(runs)
    elif run is None:
        gates_to_pass(project, start)
        queue_button(project)
    elif is_running(run.job):
        live(project, run)
    else:
        ended(project, run, runs)
    queue_view(project)
    with st.expander(
        "Explain a log", key="explain_box", icon=":material/troubleshoot:", on_change="rerun"
    ) as box:
        if box.open:
            explain_log("run_explain")
