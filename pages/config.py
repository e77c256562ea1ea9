"""Choose how to train: few questions in Easy, every setting in Advanced; what it takes stands beside it all the time."""

from typing import Any

import streamlit as st

from pages.parts.config_beside import beside, time_words
from pages.parts.config_files import generated
from pages.parts.config_review import confirm, review
from pages.parts.context import advanced, require_project
from pages.parts.form import knob_widget, shown
from pages.parts.nav import PAGES, link
from pages.parts.next import what_next
from pages.parts.page import caught, page, show_error, start_at_top
from studio import choices, gates, guides, models, presets
from studio.errors import InputError, StudioError
from studio.files import human_memory
from studio.findings import Finding
from studio.project import Project
from studio.settings import GROUPS, Knob, TrainingSettings, optimizers, problems

VIEWS = {"choose": "Choose", "review": "Review and confirm", "files": "Generated files"}


def first_sentence(text: str) -> str:
    """The first sentence of a help text; the rest is in the tooltip."""
    return text.partition(". ")[0].rstrip(".") + "."


# --- choosing


def base_model(project: Project) -> None:
    """Which base model, with one sentence on it; a family change takes its preset along."""
    entries = {m.id: m for m in models.list_models(project.workspace)}
    here = {i: m.location(project.workspace) is not None for i, m in entries.items()}
    now = project.intent.base_model
    options = [i for i in entries if here[i] or i == now]
    key = f"base_{project.slug}"
    if st.session_state.get(key) not in options:
        st.session_state[key] = now if now in options else options[0]

    def chosen() -> None:
        with caught():
            applied = choices.choose_base_model(project, st.session_state[key])
            if applied:
                st.toast(
                    f"The preset {applied.title} for {entries[st.session_state[key]].title} was applied with it."
                )

    st.selectbox("Base model", options, key=key, on_change=chosen, format_func=lambda i: entries[i].title
                 + ("" if here[i] else " (not on this computer)"),
                 help="The picture model that your LoRA is made for. It is never changed.")  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        about = entries[now].summary if now in entries else "This base model is not listed any more."
        st.caption(f"{about} {models.UPLOADED}" if choices.uploads(project) else about, width="stretch")
        link("setup", "Add another", icon=":material/add:")


def preset_cards(project: Project, settings: TrainingSettings) -> None:
    """The presets as cards, with memory and time on this computer."""
    offered = presets.presets_for(project.workspace, choices.entry_of(project))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            "**Preset**",
            help="A preset fills all settings. You can change anything afterwards.",
            width="stretch",
        )
        link("guide", "About presets", icon=":material/menu_book:", topic="presets")
    with st.grid(min(3, max(1, len(offered))), min_column_width=160):
        for preset in offered:
            chosen = preset.id == project.preset
            with st.container(border=True, height="stretch", gap="xsmall", key=f"preset_{preset.id}"):
                untouched = chosen and choices.reference(project) == settings
                mark = f" :green-badge[{'chosen' if untouched else 'changed'}]" if chosen else ""
                st.markdown(f"**{preset.title}**{mark}")
                st.markdown(f":small[{preset.summary}]")
                with caught():
                    told = gates.forecast(
                        project, settings if chosen else choices.preset_settings(project, preset)
                    )
                    st.caption(f":material/timer: {time_words(told, preset)}  \n"
                               + (f":material/memory: about {human_memory(told.memory_bytes)}  \n" if told.memory_bytes else "") +
                               f":material/steps: {told.steps.total_steps} steps")  # fmt: skip
                st.space("stretch")
                if untouched:
                    st.button("In use", key=f"use_{preset.id}", disabled=True, width="stretch")
                else:
                    st.button("Fill in again" if chosen else "Use this", key=f"use_{preset.id}", width="stretch",
                              on_click=use_preset, args=(project, preset.id))  # fmt: skip


def use_preset(project: Project, preset_id: str) -> None:
    """Fill everything from a preset."""
    with caught():
        choices.choose_preset(project, preset_id)


def store(project: Project, values: dict[str, Any]) -> None:
    """Keep what was changed, say what followed, and draw the page anew."""
    followed = choices.change(project, values, follow_rank=not advanced())
    for f in followed:
        knob = next(c.knob for c in choices.listed(project) if c.knob.name == f.name)
        st.toast(f"{knob.title} is now {shown(knob, f.after)}. {f.why}")
    st.rerun()


def field(project: Project, knob: Knob, value: Any, changed: dict[str, Any], *, sentence: bool) -> None:
    """One setting; what was typed goes into `changed` when it differs from the disk."""
    typed = knob_widget(knob, value, key=f"set_{project.slug}_{knob.name}")
    if sentence:
        meaning = knob.choices.get(str(value), "")
        st.caption(first_sentence(f"{meaning[0].upper()}{meaning[1:]}" if meaning else knob.help))
    if typed is not None and typed != value:
        changed[knob.name] = typed
        for problem in problems({knob.name: typed}):
            st.caption(f":red[:material/error: {problem.what} {problem.fix}]")


def notes(knob: Knob, told: list[Finding]) -> None:
    """What speaks against the value of one setting, in its own place."""
    for f in told:
        if knob.name in f.where:
            look = ":red[:material/block:" if f.severity == "block" else ":orange[:material/warning:"
            st.caption(f"{look} {f.what} {f.fix}]")


def easy(project: Project, settings: TrainingSettings) -> None:
    """At most seven questions; all else follows from them."""
    base_model(project)
    st.space("small")
    preset_cards(project, settings)
    st.space("small")
    changed: dict[str, Any] = {}
    asked, told = choices.easy_asks(project), choices.remarks(project, settings)
    with st.grid(2, min_column_width=260):
        for knob in asked:
            if knob.kind != "choice":
                with st.container(gap="xsmall"):
                    field(project, knob, getattr(settings, knob.name), changed, sentence=True)
                    notes(knob, told)
    for knob in asked:  # a choice says what it means, which needs the whole width
        if knob.kind == "choice":
            with st.container(gap="xsmall"):
                field(project, knob, getattr(settings, knob.name), changed, sentence=False)
                if knob.name == "optimizer":
                    st.caption(optimizers.ABOUT[settings.optimizer])
                notes(knob, told)
    apply(project, changed)


def every_setting(project: Project, settings: TrainingSettings) -> None:
    """All settings in groups; changed ones marked, each with its way back."""
    base_model(project)
    preset_cards(project, settings)
    st.space("small")
    listed = choices.listed(project, settings)
    mine = [c for c in listed if c.origin == "yours"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        query = st.text_input("Find a setting", type="search", live=True, key="config_query",
                              placeholder="rate, memory, seed")  # fmt: skip
        only = st.toggle(f"Only changed ({len(mine)})", key="config_only")
        st.button("Undo all changes", key="reset_all", icon=":material/restart_alt:", disabled=not mine,
                  on_click=choices.reset, args=(project, [c.knob.name for c in mine]))  # fmt: skip
    words = (query or "").lower().split()
    changed: dict[str, Any] = {}
    told = choices.remarks(project, settings)
    found = 0
    for group in GROUPS:
        fields = [
            c for c in listed
            if c.knob.group == group and (not only or c.origin == "yours")
            and all(w in f"{c.knob.title} {c.knob.name} {c.knob.help}".lower() for w in words)
        ]  # fmt: skip
        if not fields:
            continue
        found += len(fields)
        count = sum(c.origin == "yours" for c in fields)
        title = f"{group} :green-badge[{count} changed]" if count else group
        with st.expander(
            title,
            expanded=bool(words) or only or group in ("Network", "Length"),
            # By another key, since one keeps what the user closed: what is looked for would stay hidden.
            key=f"{'found' if words or only else 'group'}_{group}",
        ):
            for c in fields:
                advanced_row(project, c, changed, told)
            about = guides.guide_about(c.knob.name for c in listed if c.knob.group == group)
            if about:
                link("guide", f"Read: {about.title}", icon=":material/menu_book:", topic=about.id)
    if not found:
        st.caption("No setting fits." if words else "Nothing was changed from the preset.")
    apply(project, changed)


def advanced_row(
    project: Project, choice: choices.Choice, changed: dict[str, Any], told: list[Finding]
) -> None:
    """A setting in Advanced: the field, what it does, what speaks against its value, and the way back."""
    knob = choice.knob
    beside = knob.kind not in ("choice", "lines", "text")  # what is long takes the whole width
    with st.container(horizontal=beside, vertical_alignment="center", gap="medium" if beside else "xsmall",
                      key=f"row_{knob.name}"):  # fmt: skip
        with st.container(width=280 if beside else "stretch"):
            field(project, knob, choice.value, changed, sentence=False)
        with st.container(width="stretch", gap="xxsmall"):
            usual = f" Usually {knob.range_words.rpartition('usually ')[2]}." if knob.safe else ""
            about = f" {optimizers.ABOUT[choice.value]}" if knob.name == "optimizer" else ""
            st.caption(knob.help + about + usual)
            notes(knob, told)
            if choice.origin == "yours":
                st.button(
                    f":green-badge[changed] Back to {shown(knob, choice.usual).partition(':')[0]}",
                    key=f"reset_{knob.name}",
                    icon=":material/undo:",
                    type="tertiary",
                    on_click=choices.reset,
                    args=(project, [knob.name]),
                )


def to_review() -> None:
    """Go on to the list of all choices, from its first line."""
    st.session_state["config_view"] = "review"
    start_at_top()


def apply(project: Project, changed: dict[str, Any]) -> None:
    """Store what was typed, or say why it cannot be."""
    if not changed:
        return
    try:
        store(project, changed)
    except InputError as e:
        show_error(e)


@st.dialog("Save as preset")
def save_preset(project: Project) -> None:
    """Keep these settings for other projects."""
    title = st.text_input("Name", max_chars=60, required=True, key="preset_name")
    if st.button("Save", type="primary", disabled=not (title or "").strip()):
        try:
            made = presets.save_as_preset(
                project.workspace, title, choices.entry_of(project).family, project.settings
            )
        except StudioError as e:
            show_error(e)
            return
        project.save_settings(project.settings, made.id)
        st.rerun()


project = require_project()
with page(PAGES["config"].title, PAGES["config"].about, project=project, step="config"):
    settings = choices.first_settings(project)
    st.session_state.setdefault("config_view", "choose")
    view = st.segmented_control("View", list(VIEWS), key="config_view", format_func=VIEWS.__getitem__, required=True,
                                label_visibility="collapsed", persist_state="page")  # fmt: skip
    st.space("xsmall")
    left, right = st.columns([2.4, 1], gap="large")
    # Beside long lists the estimate has to stay in sight; Streamlit has no element for that. And a number that was emptied takes
    # its old value back, so a button for it would do nothing.
    st.html(
        "<style>.stColumn:has(.st-key-what_it_takes){position:sticky;top:4.5rem;align-self:start}"
        "[data-testid=stNumberInputClearButton]{display:none}</style>"
    )
    with right, st.container(border=True, key="what_it_takes"), caught():
        beside(project, settings)
    with left, caught():
        if view == "review":
            review(project, settings)
        elif view == "files":
            generated(project)
        elif advanced():
            every_setting(project, settings)
        else:
            easy(project, settings)
    st.space("small")
    if view == "review":
        confirm(project)
        what_next(
            "Gate 2 checks that the settings fit together and fit this computer.",
            "Then the run page: four gates, and start.",
        )
    else:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Review and confirm", key="to_review", type="primary", icon=":material/fact_check:",
                      on_click=to_review)  # fmt: skip
            if st.button("Save as preset", key="save_preset", icon=":material/bookmark_add:"):
                save_preset(project)
        what_next(
            "You see every choice in one list before anything starts.",
            "Everything here is saved as you change it.",
        )
