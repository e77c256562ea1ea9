"""Home: two doors when there is nothing yet; else what runs now, where you were, and a card for each project."""

from collections.abc import Callable

import streamlit as st

from pages.parts.context import workspace
from pages.parts.flash import act, say
from pages.parts.live_job import progress_of
from pages.parts.nav import go, link
from pages.parts.page import caught, page
from pages.parts.steps import mark
from pages.parts.words import plain
from studio import guidance, shelf
from studio.dataset.folder import look
from studio.errors import StudioError
from studio.files import folder_size, human_size
from studio.guidance import Step, count_words
from studio.project import Project
from studio.working import Working, working
from studio.workspace import Trashed, shipped

SAMPLES = ("08_castle", "13_fox", "18_strawberry", "20_guitar")
DOOR = ("face", "mug", "house", "fish")
KIND_WORDS = {"character": "Character", "style": "Style", "object": "Object"}


def start_sample() -> None:
    """Make the sample project and open it."""
    with st.spinner("Setting up the sample project"):
        project = shelf.sample_project(workspace())
    st.session_state["home_open"] = project.slug


def doors() -> None:
    """The two ways to begin."""
    sample, own = st.columns(2, gap="medium")
    with sample.container(border=True, height="stretch", key="door_sample"):
        shown = [str(p) for n in SAMPLES if (p := shipped("data", "sample", f"{n}.png")).is_file()]
        for place, path in zip(st.columns(len(shown) or 1, gap="xsmall", wrap=False), shown, strict=False):
            place.image(path, width="stretch", alt="")
        st.subheader("Try it with the sample", anchor=False)
        st.markdown("Twenty pictures drawn like a blueprint, already captioned. Watch a small model learn the style, then see "
                    "at which weight it looks best.")  # fmt: skip
        st.caption(":material/timer: 2 minutes  \n:material/memory: No graphics card, no download")
        st.space("stretch")
        st.button("Try it with the sample", key="door_sample_go", type="primary", icon=":material/play_arrow:",
                  on_click=act, args=(start_sample,))  # fmt: skip
    with own.container(border=True, height="stretch", key="door_own"):
        for place, picture in zip(st.columns(4, gap="xsmall", wrap=False), DOOR, strict=True):
            place.image(str(shipped("pages", "static", f"door-{picture}.svg")), width="stretch", alt="")
        st.subheader("Start with my pictures", anchor=False)
        st.markdown("A character, a style or an object of yours. Four short questions, then you add the pictures. Your "
                    "originals are only copied, never changed.")  # fmt: skip
        st.caption(
            ":material/quiz: 4 questions, about a minute  \n:material/lock: Everything stays on this computer, "
            "unless you choose a rented base model"
        )
        st.space("stretch")
        if st.button("Start with my pictures", key="door_own_go", icon=":material/add_photo_alternate:"):
            go("new_project", project="")


def running() -> None:
    """What is going on right now, in all projects."""
    jobs = working(workspace())
    if not jobs:
        return
    st.subheader("Running now", anchor=False)

    @st.fragment(run_every=2)
    def live() -> None:
        with caught():
            if [w.job.folder for w in working(workspace())] != [w.job.folder for w in jobs]:
                st.rerun()
            for work in jobs:
                with st.container(border=True, key=f"job_{work.job.id}"):
                    progress_of(work.job, key=f"home_{work.job.id}", title=_title(work))
                    link(work.page, "Open", icon=":material/arrow_forward:", project=work.project)

    live()


def _title(work: Working) -> str:
    try:
        name = Project(workspace(), work.project).intent.name if work.project else ""
    except StudioError:
        name = work.project
    title = work.job.spec.title
    return title if not name or name in title else f"{name}: {title}"


def stand(steps: list[Step], following: Step) -> str:
    """Where a project stands, in words."""
    done = sum(s.state == "done" for s in steps)
    if done == len(steps):
        return "All five steps done"
    waiting = sum(s.state == "to check" for s in steps)
    done_words = f"{done} of {len(steps)} steps done" + (f", {waiting} to check" if waiting else "")
    told = following.missing_words if following.state == "needs you" else following.done_words
    return f"{done_words} · {following.title.lower()}: {told or following.state}"


def marks(steps: list[Step]) -> str:
    """The five steps as a row of icons, each with its name."""
    return " ".join(f"{mark(s)} :small[{s.title}]" for s in steps)


def project_card(project: Project, *, first: bool) -> None:
    """One project: its picture, where it stands, its next step, and a menu."""
    with st.container(border=True, height="stretch", gap="small", key=f"card_{project.slug}"), caught():
        try:
            intent, steps = project.intent, guidance.steps(project)
        except StudioError as e:
            st.markdown(f"**{project.slug}**")
            st.warning(e.fix or e.why, title=e.what)
            return
        following = guidance.next_step(project, steps)
        with st.container(horizontal=True, gap="medium"):
            picture = guidance.best_picture(project)
            if picture is not None:
                with caught():
                    st.image(str(picture), width=104, alt=f"A picture of {intent.name}")
            with st.container(gap="xsmall"):
                st.markdown(f"#### {plain(intent.name)}", anchors=False)
                here = " · :primary[you were here last]" if first else ""
                st.markdown(f":small[:gray[{KIND_WORDS[intent.kind]} · {intent.trigger}]{here}]")
                st.markdown(f":small[{stand(steps, following)}]")
        st.space("stretch")
        st.markdown(marks(steps))
        with st.container(horizontal=True, vertical_alignment="center"):
            label = following.next_words or "Look at the result"
            if st.button(label, key=f"next_{project.slug}", type="primary" if first else "secondary",
                         icon=":material/arrow_forward:"):  # fmt: skip
                go(following.name, project=project.slug)
            chosen = st.menu_button(
                "More", ["Open the pictures", "Delete…"], key=f"more_{project.slug}", type="tertiary"
            )
            if chosen == "Open the pictures":
                go("dataset", project=project.slug)
            elif chosen == "Delete…":
                confirm_delete(project)


@st.dialog("Delete this project?", icon=":material/delete:")
def confirm_delete(project: Project) -> None:
    """Ask before a project goes to the trash."""
    there = count_words(len(look(project.dataset_dir).pictures), "picture")
    runs = count_words(len(list(project.runs_dir.glob("*/run.json"))), "run")
    st.markdown(f"**{plain(project.intent.name)}** with {there}, its captions and {runs} ({human_size(folder_size(project.folder))}) "
                "goes to the trash of your workspace. You can get it back from this page. LoRAs in the library stay.")  # fmt: skip
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Keep it", key="delete_no"):
            st.rerun()
        if st.button("Move to the trash", key="delete_yes", type="primary", icon=":material/delete:"):
            act(delete, project)
            st.rerun()


def delete(project: Project) -> None:
    """Move the project to the trash, and offer the way back."""
    name = project.intent.name
    place = shelf.delete_project(project)
    if st.session_state.get("project_slug") == project.slug:
        st.session_state["project_slug"] = ""
    say(
        f"**{plain(name)}** is in the trash.",
        undo=lambda: shelf.put_back(workspace(), place),
        undo_label="Put it back",
    )


def trash() -> None:
    """Deleted projects, with their way back."""
    gone = shelf.deleted_projects(workspace())
    if not gone:
        return
    with st.expander(f"Trash ({count_words(len(gone), 'project')})", icon=":material/delete:", key="trash"):
        for item in gone:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{plain(item.name)}** :small[:gray[deleted {item.at[:10]}]]", width="stretch")
                st.button("Put it back", key=f"back_{item.place.parent.name}", icon=":material/undo:", on_click=act,
                          args=(restored, item))  # fmt: skip


def restored(item: Trashed) -> None:
    """Get a project back."""
    project = shelf.put_back(workspace(), item.place)
    say(f"**{plain(project.intent.name)}** is back.")


def attempt(draw: Callable[[], None]) -> None:
    """Draw a part; when it fails, the others are still there."""
    with caught():
        draw()


opened = st.session_state.pop("home_open", "")
if opened:
    go("dataset", project=opened)
slugs = workspace().project_slugs()
if not slugs:
    with page("Teach a model something new", "A LoRA is a small add-on for a picture model. It learns a character, a style or "
              "an object from your pictures, and leaves the model itself as it is."):  # fmt: skip
        doors()
        st.space("small")
        link("guide", "What is a LoRA, and what can it do?", icon=":material/menu_book:", project="")
        attempt(trash)
else:
    with page("Your projects", "Each project is one LoRA to be. The button on a card is its next step."):
        attempt(running)
        last = str(workspace().preferences().get("last_project", ""))
        ordered = sorted(slugs, key=lambda s: s != last)
        with st.grid("auto", min_column_width=380, gap="medium"):
            for n, slug in enumerate(ordered):
                project_card(Project(workspace(), slug), first=n == 0)
        st.space("small")
        with st.container(horizontal=True):
            if st.button("New project", key="new_project", icon=":material/add:"):
                go("new_project", project="")
            st.button("Another sample project", key="again_sample", icon=":material/play_arrow:", type="tertiary",
                      on_click=act, args=(start_sample,))  # fmt: skip
        attempt(trash)
