"""The grid: weights across, prompts down; what it says, your ratings, and registration."""

from collections import Counter

import streamlit as st

from pages.parts.blind_view import blind_test
from pages.parts.context import require_project
from pages.parts.diagnosis_view import diagnosis
from pages.parts.elsewhere import bring_back_door, only_saved
from pages.parts.flash import act, unsaid
from pages.parts.form import synced
from pages.parts.grid_board import grid_board, take_up
from pages.parts.grid_failures import failed_cells
from pages.parts.grid_plan import open_grid, plan
from pages.parts.grid_view import side_by_side, verdict_card
from pages.parts.live_job import is_running, live_job
from pages.parts.measure_view import curves
from pages.parts.nav import PAGES, link
from pages.parts.next import primary, what_next
from pages.parts.page import caught, page, show_error
from pages.parts.register_form import registration
from studio.errors import NotFoundError, StudioError
from studio.evaluation.grid import (
    Grid,
    get_grid,
    list_grids,
    resume_grid,
    start_grid,
)
from studio.evaluation.html_report import html_text
from studio.evaluation.plan import with_weight
from studio.evaluation.report import report_text
from studio.guidance import count_words
from studio.jobs.job import Job
from studio.project import Project
from studio.training.runs import Run, get_run, list_runs

WIDTH = 1480
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
    saved = only_saved(grid)
    error = None if saved else job.error
    if missing:
        fix = f"\n\n**What to do:** {error['fix']}" if error and error.get("fix") else ""
        rest = "Its workflows wait for a ComfyUI elsewhere." if saved else "What is there already stays."
        st.warning(f"{(error or {}).get('why', '')}{fix}" or rest, icon=":material/grid_off:",
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
    if (
        verdict is not None and st.session_state["grid_view"] != "blind"
    ):  # who judges blind is not told what won
        verdict_card(verdict, None if st.session_state["grid_view"] == "register" else to_registration,
                     drawn=grid.spec.weights, draw=lambda w: draw_too(project, grid, w))  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = st.segmented_control("Show", list(VIEWS), key="grid_view", format_func=VIEWS.__getitem__, required=True, label_visibility="collapsed",
                                    persist_state="page", on_change=whole_page)  # fmt: skip
        label = (
            switches(grid) if view == "curves" and st.session_state.get("curves_over") != "checkpoint" else ""
        )
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


def chosen(project: Project, runs: list[Run], grids: list[Grid]) -> tuple[Run | None, Grid | None]:
    """The run and grid of the address; else the newest grid there is: what was rated is not hidden by a newer run."""
    asked, wanted = st.query_params.get("run", ""), st.query_params.get("grid", "")
    run = runs[0] if runs else None
    try:
        if wanted and wanted != "new":
            grid = get_grid(project, wanted)
            return next((r for r in runs if r.id == grid.spec.run), run), grid
        if asked:
            run = get_run(project, asked)
    except NotFoundError as e:
        st.warning(f"{e.why} {e.fix}", title=e.what)
    own = [g for g in grids if run is None or g.spec.run == run.id]
    if not own and not asked and not wanted and grids:
        own = grids[:1]
        run = next((r for r in runs if r.id == own[0].spec.run), run)
    return run, own[0] if own and wanted != "new" else None


def chooser(runs: list[Run], grids: list[Grid], run: Run | None, grid: Grid | None) -> None:
    """Switch to another run's grid, or plan a new one."""
    if not grids:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ids = [g.id for g in grids]
        names = {
            g.id: f"{g.id.removeprefix('grid-')[:13]} · {', '.join(x.label for x in g.spec.lora_files)}"
            for g in grids
        }
        alike = {n for n, count in Counter(names.values()).items() if count > 1}
        # A browser answers with the words: two grids of one minute must not share them.
        names = {i: f"{n} ({i.rpartition('-')[2]})" if n in alike else n for i, n in names.items()}
        if grid is not None and len(ids) > 1:
            synced("which_grid", grid.id)
            st.selectbox("Grid", ids, key="which_grid", format_func=names.__getitem__, width=420,
                         on_change=lambda: open_grid(st.session_state["which_grid"]))  # fmt: skip
        newest = runs[0] if runs else None
        if grid is not None and newest is not None and all(g.spec.run != newest.id for g in grids):
            st.button(f"Draw a grid of the new run, {newest.id}", key="first_of_run", icon=":material/add:", on_click=open_grid,
                      args=("", newest.id))  # fmt: skip
        elif grid is not None:
            st.button(
                "Draw another grid",
                key="another",
                icon=":material/add:",
                on_click=open_grid,
                args=("", run.id if run else ""),
            )
        else:
            st.button(
                "Back to the last grid",
                key="back",
                icon=":material/arrow_back:",
                on_click=open_grid,
                args=(ids[0],),
            )
            if len(runs) > 1 and run is not None:
                synced("which_run", run.id)
                st.selectbox("Run", [r.id for r in runs], key="which_run", width=320,
                             on_change=lambda: open_grid("", st.session_state["which_run"]))  # fmt: skip


project = require_project()
with page(
    PAGES["evaluation"].title, PAGES["evaluation"].about, project=project, step="evaluation", width=WIDTH
):
    runs = [r for r in list_runs(project) if r.checkpoints()]
    grids = list_grids(project)
    run, grid = chosen(project, runs, grids)
    if not runs and not grids and st.query_params.get("grid") != "new":
        st.info("A grid is drawn with a LoRA, and none was trained yet. A run gives its first one after its first checkpoint.",
                title="Nothing to evaluate yet", icon=":material/grid_off:")  # fmt: skip
        with st.container(horizontal=True):
            link("run", "Go to the run page", icon=":material/arrow_forward:")
            st.button("Evaluate a LoRA file from elsewhere", key="from_elsewhere", type="tertiary", icon=":material/folder_open:",
                      on_click=open_grid, args=("",))  # fmt: skip
    else:
        chooser(runs, grids, run, grid)
        if grid is not None:
            show(project, grid)
        else:
            try:
                plan(project, run)
            except StudioError as e:
                show_error(e)
