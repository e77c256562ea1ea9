"""The grid: weights across, prompts down; what it says, your ratings, and registration."""

import streamlit as st

from pages.parts.blind_view import blind_test
from pages.parts.context import advanced, require_project
from pages.parts.diagnosis_view import diagnosis
from pages.parts.elsewhere import bring_back_door, workflows_door
from pages.parts.flash import act, unsaid
from pages.parts.form import synced
from pages.parts.grid_board import grid_board, take_up
from pages.parts.grid_failures import failed_cells
from pages.parts.grid_view import curves, side_by_side, verdict_card
from pages.parts.live_job import is_running, live_job
from pages.parts.nav import PAGES, link
from pages.parts.next import primary, what_next
from pages.parts.page import caught, page, show_error
from pages.parts.register_form import registration
from pages.parts.renderer_choice import renderer_choice
from studio.errors import InputError, NotFoundError, StudioError
from studio.evaluation.grid import (
    DEFAULT_WEIGHTS,
    FAMILY_WORDS,
    Grid,
    GridSpec,
    get_grid,
    grid_cost,
    list_grids,
    plan_grid,
    resume_grid,
    start_grid,
)
from studio.evaluation.html_report import html_text
from studio.evaluation.plan import with_weight
from studio.evaluation.prompts import CHOOSABLE, own_prompts
from studio.evaluation.report import report_text
from studio.files import human_time
from studio.guidance import count_words
from studio.jobs.job import Job
from studio.project import Project
from studio.training.runs import Run, get_run, list_runs

WIDTH = 1480
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)
VIEWS = {
    "grid": "Grid",
    "compare": "Side by side",
    "blind": "Blind test",
    "curves": "Curves",
    "diagnosis": "Diagnosis",
    "register": "Register",
}
# Views in which somebody judges: they are drawn again by themselves, without the rest of the page.
QUICK = ("grid", "blind")
WHOLE = "_evaluation_whole"


def open_grid(grid_id: str, run_id: str = "") -> None:
    """Show a grid, or, for "", plan a new one: the address says which."""
    st.query_params["grid"] = grid_id or "new"
    if run_id:
        st.query_params["run"] = run_id
    st.session_state["grid_view"] = "grid"


# --- planning


def plan(project: Project, run: Run) -> None:
    """What the grid shall show, and what that costs."""
    st.markdown(f"**A new grid** :gray[for {run.id}]")
    intent, found = project.intent, run.checkpoints()
    names = {"final": "The last", "spread": "Early, middle, last", "all": f"All {len(found)}"}
    offered = ["final", *(["spread"] if len(found) > 2 else []), *(["all"] if len(found) > 1 else [])]
    left, right = st.columns(2, gap="large")
    with left:
        chosen = st.segmented_control("Checkpoints", offered, default="spread" if "spread" in offered else offered[-1],
                                      format_func=names.__getitem__, required=True, key="plan_checkpoints",
                                      help="An earlier checkpoint is often better than the last one.")  # fmt: skip
        weights = st.pills("Weights", WEIGHTS, selection_mode="multi", default=[w for w in DEFAULT_WEIGHTS if w],
                           format_func=lambda w: f"{w:g}", key="plan_weights", wrap=True,
                           help="Weight 0, the base model alone, is always on the grid.")  # fmt: skip
        drawer = renderer_choice(project)
        seeds, steps, guidance = 1, None, None
        if advanced():
            with st.container(horizontal=True):
                seeds = st.number_input(
                    "Seeds",
                    1,
                    4,
                    1,
                    key="plan_seeds",
                    help="Pictures of each kind. More are surer, and slower.",
                )
                defaults = plan_grid(project, run)
                steps = st.number_input("Drawing steps", 1, 200, defaults.steps, key="plan_steps")
                guidance = st.number_input("Guidance", 1.0, 30.0, defaults.guidance, 0.5, key="plan_guidance",
                                           help="How strictly pictures follow their prompt.")  # fmt: skip
    with right:
        st.markdown("Prompts", help="What each row shows. Each kind answers another question.")
        kinds = st.pills(
            "Kinds",
            CHOOSABLE,
            selection_mode="multi",
            key="plan_families",
            format_func=lambda f: FAMILY_WORDS[f].capitalize(),
            help="All prompts of some kinds. Without a choice: a few of each.",
            label_visibility="collapsed",
            wrap=True,
        )
        kept = []
        with st.container(gap="xxsmall"):
            for prompt in plan_grid(project, run, families=kinds or None).prompts:
                if st.checkbox(
                    f"{prompt.text} :small[:gray[{FAMILY_WORDS[prompt.family]}]]",
                    True,
                    key=f"plan_{prompt.id}",
                ):
                    kept.append(prompt)
        own = st.text_area("Your own prompts, one a line", key="plan_own", height=90,
                           placeholder=f"{intent.trigger}, a lighthouse at night")  # fmt: skip
    extra = own_prompts((own or "").splitlines(), intent.trigger)
    lacking = "" if weights else "Choose at least one weight above 0."
    lacking = lacking or ("" if kept or extra else "Choose or write at least one prompt.") or drawer.blocked

    def planned(options: dict[str, object]) -> GridSpec:
        return plan_grid(
            project, run, checkpoints=chosen or "final", weights=weights, prompts=[*kept, *extra],
            seeds=range(1, int(seeds) + 1), steps=steps, guidance=guidance, **options,
        )  # fmt: skip

    if lacking:
        primary("Draw the grid", key="draw", icon=":material/grid_view:", blocked=lacking)
        if lacking == drawer.blocked:
            workflows_door(project, planned)
        return
    spec = planned(drawer.options)
    cost = grid_cost(project, spec)
    takes = f", about {human_time(cost.seconds)}" if cost.seconds is not None else ""
    there = f" {cost.there} of its {cost.cells} pictures are there already." if cost.there else ""
    st.space("small")
    label = (
        f"Draw {count_words(cost.to_render, 'picture')}{takes}"
        if cost.to_render
        else "Put this grid together · seconds"
    )
    if primary(label, key="draw", icon=":material/grid_view:"):
        start_grid(project, spec)
        open_grid(spec.id, run.id)
        st.rerun()
    once = " At weight 0 all checkpoints share a picture." if len(spec.lora_files) > 1 else ""
    st.caption(f"{count_words(len(spec.lora_files), 'checkpoint')} × {len(spec.weights)} weights × "
               f"{count_words(len(spec.prompts), 'prompt')}.{once}{there} Time: {cost.basis}.")  # fmt: skip
    workflows_door(project, planned)
    what_next("The pictures are drawn by a job of its own; finished ones appear at once.",
              "Then the studio measures them and proposes a weight; your ratings can overrule it.")  # fmt: skip


# --- looking


def switches(grid: Grid) -> str:
    """Which checkpoint's curves are shown."""
    spec, verdict = grid.spec, grid.verdict
    labels = [x.label for x in spec.lora_files]
    advised = verdict.checkpoint if verdict and verdict.checkpoint in labels else labels[-1]
    if len(labels) == 1:
        return labels[0]
    return (
        st.segmented_control(
            "Checkpoint", labels, default=advised, required=True, key=f"checkpoint_{grid.id}"
        )
        or advised
    )


def drawing(grid: Grid) -> None:
    """A grid that is being drawn: how far it is, and what is there already; that can be rated meanwhile."""

    def table(_job: Job) -> None:
        heard = take_up(grid)
        grid_board(grid, heard.problem)
        if heard.new:
            grid.review.changed()

    live_job(grid.job, key="grid", draw=table, every=2.0, stop_label="Stop drawing")
    what_next("Pictures that are drawn stay, and can be rated at once. You can close this page meanwhile.")


def unfinished(grid: Grid) -> None:
    """A grid that ended before all was drawn."""
    job, cells = grid.job, grid.cells()
    missing = len({c.hash for c in cells if c.path is None})
    error = job.error
    if missing:
        fix = f"\n\n**What to do:** {error['fix']}" if error and error.get("fix") else ""
        st.warning(f"{(error or {}).get('why', '')}{fix}" or "What is there already stays.", icon=":material/grid_off:",
                   title=f"{count_words(missing, 'picture')} of this grid "
                         f"{'is' if missing == 1 else 'are'} missing")  # fmt: skip
    else:
        st.info("All pictures are there; only the measurements are missing.", title="Nearly done")
    failed_cells(grid)
    if missing:
        bring_back_door(grid)
    if primary("Go on drawing" if missing else "Measure now", key="go_on", icon=":material/resume:"):
        resume_grid(grid)
        st.rerun()


def to_registration() -> None:
    """Go on to the form."""
    st.session_state["grid_view"] = "register"
    whole_page()


def draw_too(project: Project, grid: Grid, weight: float) -> None:
    """The same grid with the proposed weight as a column of its own."""

    def draw() -> None:
        spec = with_weight(grid.spec, weight)
        start_grid(project, spec)
        open_grid(spec.id, spec.run or "")

    act(draw)
    whole_page()


def whole_page() -> None:
    """Have the whole page drawn, where only a part would be."""
    st.session_state[WHOLE] = True


def show(project: Project, grid: Grid) -> None:
    """A grid: verdict, pictures, comparison, curves, registration."""
    if is_running(grid.job):
        drawing(grid)
        return
    st.session_state.setdefault("grid_view", "grid")
    st.session_state.pop(WHOLE, None)
    if not grid.done:
        unfinished(grid)
    if st.session_state["grid_view"] in QUICK:
        st.fragment(lambda: part(project, grid))()
    else:
        part(project, grid)
    if st.session_state["grid_view"] != "register":
        what_next("Registering copies the LoRA into your library, with its trigger word and weight.",
                  "Ratings of at least two columns decide the verdict; until then the measurements do.")  # fmt: skip


def part(project: Project, grid: Grid) -> None:
    """What changes with each rating: the verdict, and the view that was chosen."""
    if st.session_state.pop(WHOLE, False) or unsaid():
        st.rerun(scope="app")
    with caught():
        heard = take_up(grid)
        try:
            views(project, grid, heard.problem)
        finally:
            if heard.new:  # after the answer is on its way: the report and the records follow the ratings
                grid.review.changed()


def views(project: Project, grid: Grid, problem: StudioError | None) -> None:
    """The verdict, and the view that was chosen. problem: why something that was said could not be stored."""
    verdict = grid.verdict
    if verdict is not None:
        verdict_card(verdict, None if st.session_state["grid_view"] == "register" else to_registration,
                     drawn=grid.spec.weights, draw=lambda w: draw_too(project, grid, w))  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = st.segmented_control("Show", list(VIEWS), key="grid_view", format_func=VIEWS.__getitem__, required=True,
                                    persist_state="page", on_change=whole_page)  # fmt: skip
        label = switches(grid) if view == "curves" else ""
        link("guide", "How to read it", icon=":material/menu_book:", topic="evaluation")
    if view == "compare":
        side_by_side(grid, grid.cells())
    elif view == "curves":
        curves(grid, label)
    elif view == "blind":
        blind_test(grid, grid.cells())
    elif view == "diagnosis":
        diagnosis(project, grid)
    elif view == "register":
        registration(project, grid)
    else:
        grid_board(grid, problem)
        below(grid)


def below(grid: Grid) -> None:
    """The person's own words on the grid, and the sheet to keep."""
    key = f"own_words_{grid.id}"
    synced(key, grid.review.verdict_note)

    def keep() -> None:
        with caught():
            grid.review.set_verdict_note(st.session_state[key] or "")

    st.text_area(
        "Your own verdict", key=key, on_change=keep, height=80, placeholder="What you see, in your words"
    )
    with st.container(horizontal=True):
        if grid.sheet is not None:
            st.download_button("Save the contact sheet", grid.sheet.read_bytes, file_name=f"{grid.id}.png", mime="image/png",
                               on_click="ignore", icon=":material/download:")  # fmt: skip
        st.download_button("Save the report (HTML)", lambda: html_text(grid), file_name=f"{grid.id}.html", mime="text/html",
                           on_click="ignore", icon=":material/description:", help="One file with all pictures.")  # fmt: skip
        st.download_button("Save the report (Markdown)", lambda: report_text(grid), file_name=f"{grid.id}.md", mime="text/markdown",
                           on_click="ignore", icon=":material/notes:")  # fmt: skip


# --- which run, which grid


def chosen(project: Project, runs: list[Run], grids: list[Grid]) -> tuple[Run, Grid | None]:
    """The run and grid of the address; else the newest grid there is: what was rated is not hidden by a newer run."""
    asked, wanted = st.query_params.get("run", ""), st.query_params.get("grid", "")
    run = runs[0]
    try:
        if wanted and wanted != "new":
            grid = get_grid(project, wanted)
            return next((r for r in runs if r.id == grid.spec.run), run), grid
        if asked:
            run = get_run(project, asked)
    except NotFoundError as e:
        st.warning(f"{e.why} {e.fix}", title=e.what)
    own = [g for g in grids if g.spec.run == run.id]
    if not own and not asked and not wanted and grids:
        own = grids[:1]
        run = next((r for r in runs if r.id == own[0].spec.run), run)
    return run, own[0] if own and wanted != "new" else None


def chooser(runs: list[Run], grids: list[Grid], run: Run, grid: Grid | None) -> None:
    """Switch to another run's grid, or plan a new one."""
    if not grids:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ids = [g.id for g in grids]
        names = {
            g.id: f"{g.id.removeprefix('grid-')[:13]} · {', '.join(x.label for x in g.spec.lora_files)}"
            for g in grids
        }
        if grid is not None and len(ids) > 1:
            synced("which_grid", grid.id)
            st.selectbox("Grid", ids, key="which_grid", format_func=names.__getitem__, width=420,
                         on_change=lambda: open_grid(st.session_state["which_grid"]))  # fmt: skip
        newest = runs[0]
        if grid is not None and all(g.spec.run != newest.id for g in grids):
            st.button(f"Draw a grid of the new run, {newest.id}", key="first_of_run", icon=":material/add:", on_click=open_grid,
                      args=("", newest.id))  # fmt: skip
        elif grid is not None:
            st.button(
                "Draw another grid",
                key="another",
                icon=":material/add:",
                on_click=open_grid,
                args=("", run.id),
            )
        else:
            st.button(
                "Back to the last grid",
                key="back",
                icon=":material/arrow_back:",
                on_click=open_grid,
                args=(ids[0],),
            )
            if len(runs) > 1:
                synced("which_run", run.id)
                st.selectbox("Run", [r.id for r in runs], key="which_run", width=320,
                             on_change=lambda: open_grid("", st.session_state["which_run"]))  # fmt: skip


project = require_project()
with page(
    PAGES["evaluation"].title, PAGES["evaluation"].about, project=project, step="evaluation", width=WIDTH
):
    runs = [r for r in list_runs(project) if r.checkpoints()]
    grids = list_grids(project)
    if not runs and not grids:
        st.info("A grid is drawn with a LoRA, and none was trained yet. A run gives its first one after its first checkpoint.",
                title="Nothing to evaluate yet", icon=":material/grid_off:")  # fmt: skip
        link("run", "Go to the run page", icon=":material/arrow_forward:")
    elif not runs:
        show(project, grids[0])
    else:
        run, grid = chosen(project, runs, grids)
        chooser(runs, grids, run, grid)
        if grid is None:
            try:
                plan(project, run)
            except InputError as e:
                show_error(e)
        else:
            show(project, grid)
