"""Pass the four gates, train, watch it learn, and see what came out."""

from datetime import datetime

import streamlit as st

from pages.parts.charts import CONFIG, loss_figure, loss_words
from pages.parts.context import require_project
from pages.parts.findings import show_findings
from pages.parts.gates_view import gates_to_pass, queue_gates
from pages.parts.live_job import is_running, log_of
from pages.parts.nav import PAGES, go, link
from pages.parts.next import primary, what_next
from pages.parts.page import caught, page
from pages.parts.run_more import cost_so_far, run_again, system_line
from pages.parts.run_queue import queue_button, queue_view
from studio import choices, compare, gates, launch
from studio.errors import NotFoundError
from studio.files import human_size, human_time
from studio.findings import Finding
from studio.guidance import count_words
from studio.jobs.job import Job
from studio.project import Project
from studio.training.base import Checkpoint
from studio.training.progress import Metrics
from studio.training.registry import is_rented
from studio.training.replicate import cost_words
from studio.training.runs import Run, get_run, list_runs

STATE_LOOK = {
    "finished": ("green", ":material/check_circle:"),
    "failed": ("red", ":material/error:"),
    "stopped": ("orange", ":material/stop_circle:"),
    "interrupted": ("orange", ":material/power_off:"),
}


def day(iso: str) -> str:
    """A time stamp as people write it, in this computer's time zone."""
    try:
        return datetime.fromisoformat(iso).astimezone().strftime("%d %b %Y, %H:%M")
    except ValueError:
        return iso


def open_run(run_id: str, view: str = "watch") -> None:
    """Show a run: the address says which."""
    if run_id:
        st.query_params["run"] = run_id
    st.session_state["run_next_view"] = view


# --- before: the gates


def start(project: Project) -> None:
    """The start button, named after what it costs."""
    told = gates.forecast(project)
    cost = f" · about {human_time(told.seconds)}" if told.seconds is not None else ""
    dollars = cost_words(project.settings, choices.entry_of(project).family, told.steps.total_steps)
    if dollars:
        cost = f" · {dollars.partition(' (')[0]}".replace("$", "\\$")
    if primary(f"Start training{cost}", key="start", icon=":material/play_arrow:"):
        run = launch.start_training(project)
        open_run(run.id)
        st.rerun()
    st.button("Check everything again", key="check_again", type="tertiary", icon=":material/refresh:", on_click=queue_gates,
              args=(project, True))  # fmt: skip
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


def told_so_far(run: Run) -> Metrics:
    """Everything the run said; only what is new is read from the disk."""
    key = f"_metrics_{run.id}"
    metrics: Metrics
    metrics, offset = st.session_state.get(key, (Metrics(), 0))
    events, further = run.events(offset)
    if further < offset or (offset and run.job.attempt != st.session_state.get(f"{key}_attempt")):
        metrics = Metrics()
        events, further = run.events(0)
    metrics.add(events)
    st.session_state[key] = (metrics, further)
    st.session_state[f"{key}_attempt"] = run.job.attempt
    return metrics


def figures(run: Run, metrics: Metrics) -> None:
    """Step, epoch, loss, time and memory in a row."""
    job = run.job
    alive = is_running(job)
    epochs = metrics.total_epochs or run.manifest["steps"]["epochs"]
    total = metrics.total_steps or run.manifest["steps"]["total"]
    line = metrics.smoothed
    spent = job.progress.elapsed_seconds
    with st.grid(5, min_column_width=150):
        st.metric("Step", f"{metrics.step} of {total}", border=True, height="stretch")
        st.metric("Epoch", f"{metrics.epoch} of {epochs}", border=True, height="stretch")
        if line:
            first = compare.outcome(run, metrics).first_loss  # as History tells it
            # Within the first steps both means are over the same ones, and a change would say nothing.
            percent = (
                round((line[-1] / first - 1) * 100)
                if first and len(metrics.losses) > max(10, metrics.steps_per_epoch)
                else 0
            )
            st.metric("Loss now" if alive else "Loss at the end", f"{line[-1]:.3f}", f"{percent:+d} %" if percent else None, delta_color="off", border=True,
                      height="stretch", delta_description=f"from {first:.3f}" if percent else None,
                      help=f"It began at {first:.3f}. A mean over one epoch, because single steps jump.")  # fmt: skip
        else:
            st.metric("Loss now", "not yet", border=True, height="stretch")
        if alive:
            left = job.progress.eta_seconds if job.progress.eta_seconds is not None else metrics.eta_seconds
            st.metric("Time left", human_time(left) if left is not None and metrics.step else "measuring", border=True,
                      height="stretch")  # fmt: skip
        else:
            seconds = compare.outcome(run, metrics).seconds or spent
            st.metric("Took", human_time(seconds) if seconds else "unknown", border=True, height="stretch")
        cost = cost_so_far(job)
        if cost:
            st.metric("Cost so far" if alive else "Cost", cost, border=True, height="stretch", help="Running time at "
                      "Replicate's price; the bill is theirs.")  # fmt: skip
            return
        where = "Graphics memory" if metrics.device.startswith("cuda") else "Memory"
        st.metric(
            where, human_size(metrics.memory) if metrics.memory else "not yet", border=True, height="stretch"
        )


def picture_line(run: Run, metrics: Metrics) -> None:
    """The samples over time: a row for each prompt, from before the training to now."""
    samples = run.samples()
    if not samples:
        return
    st.markdown(
        "**Samples**", help="Drawn during training with one seed. Step 0 is the base model without the LoRA."
    )
    steps = sorted({s.step for s in samples})
    shown = steps if len(steps) <= 7 else [steps[round(i * (len(steps) - 1) / 6)] for i in range(7)]
    for prompt in dict.fromkeys(s.prompt for s in samples):
        st.caption(f"{prompt}")
        row = {s.step: s for s in samples if s.prompt == prompt}
        for column, step in zip(st.columns(max(len(shown), 5), gap="small"), shown, strict=False):
            if step in row:
                sample = row[step]
                label = "before" if step == 0 else f"epoch {sample.epoch}"
                column.image(str(sample.path), width="stretch", caption=label, alt=f"{prompt}, {label}")


def body(run: Run, metrics: Metrics) -> None:
    """Figures, curve, samples, anomalies: the same while it runs and afterwards."""
    figures(run, metrics)
    if metrics.findings:
        show_findings(metrics.findings, key=f"odd_{run.id}")
    if metrics.losses:
        st.plotly_chart(loss_figure(metrics, run.checkpoints(), run.samples()), key=f"loss_{run.id}", config=CONFIG,
                        alt=loss_words(metrics))  # fmt: skip
    picture_line(run, metrics)


def live(project: Project, run: Run) -> None:
    """A run that is going on, drawn anew each second."""
    stopping = run.job.state == "stopping"

    @st.fragment(run_every=1.0)
    def view() -> None:
        with caught():
            if not is_running(run.job):
                launch.write_records(project, run)
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
            body(run, metrics)
            log_of(run.job, key=f"run_{run.id}")

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
                    "Stop training", key="stop_now", type="primary", on_click=launch.stop_run, args=(run,)
                )
    view()
    what_next("You can close this page; training goes on.", "When it ends, you see here what came out.")


def ended(project: Project, run: Run, runs: list[Run]) -> None:
    """A run that has ended: how, what came out, what was different from the one before, what to do next."""
    metrics, job = told_so_far(run), run.job
    checkpoints = run.checkpoints()
    colour, icon = STATE_LOOK.get(job.state, ("gray", ":material/help:"))
    st.markdown(
        f":{colour}[{icon}] **{verdict_words(run, metrics, checkpoints)}** :gray[{run.id} · {day(job.created)}]"
    )
    if job.state in ("failed", "interrupted", "stopped"):
        trouble(job)
    if job.state == "finished":
        primary_evaluate(run)
    elif run.resumable:
        resume(project, run, bool(checkpoints))
    st.space("small")
    body(run, metrics)
    came_out(run, checkpoints)
    against_previous(run, runs)
    run_again(project, run)
    log_of(job, key=f"run_{run.id}")
    if checkpoints:
        what_next(
            "Evaluation draws the same prompts at several weights, so that you can choose the best one."
        )
    elif job.state == "stopped":
        what_next("Resume it, or start a new run." if run.resumable else "Start a new run whenever you like.")
    else:
        what_next("Mend what stopped it, then resume or start again.")


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
    if error.get("findings"):
        show_findings([Finding.model_validate(f) for f in error["findings"]], key=f"why_{job.id}")


def primary_evaluate(run: Run) -> None:
    """Go on to the grid."""
    if primary("Evaluate this run", key="evaluate", icon=":material/grid_view:"):
        go("evaluation", run=run.id)


def resume(project: Project, run: Run, usable: bool) -> None:
    """Go on from the saved state."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Resume training", key="resume", type="primary", icon=":material/resume:"):
            with st.spinner("Checking the environment"):
                launch.resume_run(project, run.id)
            st.rerun()
        if usable:
            link("evaluation", "Evaluate what is there", icon=":material/grid_view:", run=run.id)


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


def history(project: Project, runs: list[Run]) -> None:
    """All runs, the newest first."""
    for run in runs:
        job = run.job
        with caught(), st.container(border=True, gap="xsmall", key=f"run_{run.id}"):
            told = compare.outcome(run)
            colour, icon = STATE_LOOK.get(job.state, ("blue", ":material/progress_activity:"))
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(
                    f":{colour}[{icon}] **{day(job.created)}** :{colour}-badge[{job.state}]", width="stretch"
                )
                st.button("Open", key=f"open_{run.id}", on_click=open_run, args=(run.id,), icon=":material/open_in_full:",
                          type="tertiary")  # fmt: skip
            loss = (
                f" · loss {told.first_loss:.3f} to {told.last_loss:.3f}" if told.last_loss is not None else ""
            )
            took = f" · {human_time(told.seconds)}" if told.seconds else ""
            st.caption(f"{told.steps} of {told.total_steps} steps{took}{loss} · {count_words(told.checkpoints, 'checkpoint')} · "
                       f"preset {run.manifest.get('preset') or 'none'}")  # fmt: skip
            before = compare.previous(run, runs)
            changed = compare.differences(before, run) if before else []
            if changed:
                st.caption("Changed: " + "; ".join(f"{d.what} {d.before} → {d.after}" for d in changed[:5]))


def chosen_run(project: Project, runs: list[Run]) -> Run | None:
    """The run in the address, else the newest."""
    asked = st.query_params.get("run", "")
    if asked:
        try:
            return get_run(project, asked)
        except NotFoundError as e:
            st.warning(f"{e.why} {e.fix}", title=e.what)
    return runs[0] if runs else None


project = require_project()
with page(PAGES["run"].title, PAGES["run"].about, project=project, step="run"):
    runs = list_runs(project)
    view = "prepare"
    if runs:
        going = any(is_running(r.job) for r in runs[:3])
        names = {
            "prepare": "Prepare a run",
            "watch": "Training now" if going else "Last run",
            "history": f"History ({len(runs)})",
        }
        asked = st.session_state.pop("run_next_view", "")
        if asked or "run_view" not in st.session_state:
            st.session_state["run_view"] = asked or "watch"
        view = st.segmented_control("View", list(names), key="run_view", format_func=names.__getitem__, required=True,
                                    label_visibility="collapsed", persist_state="page") or "watch"  # fmt: skip
        st.space("xsmall")
    run = chosen_run(project, runs) if view == "watch" else None
    if view == "history":
        history(project, runs)
    elif run is None:
        gates_to_pass(project, start)
        queue_button(project)
    elif is_running(run.job):
        live(project, run)
    else:
        ended(project, run, runs)
    queue_view(project)
