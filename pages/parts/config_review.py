"""Every choice in one list, and gate 2 on it."""

import streamlit as st

from pages.parts.findings import show_findings
from pages.parts.form import shown
from pages.parts.nav import go
from pages.parts.next import primary
from pages.parts.page import caught
from studio import choices, gates
from studio.findings import Finding
from studio.project import Project
from studio.settings import TrainingSettings

ORIGINS = {"default": ":gray-badge[default]", "preset": ":blue-badge[preset]", "yours": ":green-badge[yours]"}


def review(project: Project, settings: TrainingSettings) -> None:
    """Every choice in one list, each marked with who decided it; then gate 2."""
    intent, entry = project.intent, choices.entry_of(project)
    preset = choices.current_preset(project)
    st.table(
        {
            "Base model": entry.title,
            "Preset": preset.title if preset else "none: the built-in defaults",
            "Trigger word": f"`{intent.trigger}`",
            "Kind": intent.kind,
        },
        border="horizontal",
    )
    listed = choices.listed(project, settings)
    counts = {o: sum(c.origin == o for c in listed) for o in ORIGINS}
    st.markdown(" ".join((f"{counts['yours']} of {len(listed)} settings are yours,", f"{counts['preset']} come from the preset,",
                          f"{counts['default']} are defaults.")))  # fmt: skip
    decided = [c for c in listed if c.origin != "default"]
    table(decided)
    defaults = [c for c in listed if c.origin == "default"]
    if defaults:
        with st.expander(f"{len(defaults)} more, left at their defaults", key="review_defaults"):
            table(defaults)


def table(listed: list[choices.Choice]) -> None:
    """Settings as rows; a group is named on its first one."""
    if listed:
        st.table(
            [review_row(c, first) for c, first in zip(listed, starts(listed), strict=True)],
            border="horizontal",
            hide_index=True,
        )


def starts(listed: list[choices.Choice]) -> list[bool]:
    """Which of the settings begin a new group."""
    groups = [c.knob.group for c in listed]
    return [i == 0 or g != groups[i - 1] for i, g in enumerate(groups)]


def review_row(choice: choices.Choice, first: bool) -> dict[str, str]:
    """A setting as a row of the review; the group is named once."""
    usual = shown(choice.knob, choice.usual).partition(":")[0]
    tail = f" :small[:gray[instead of {usual}]]" if choice.origin == "yours" else ""
    bold = "**" if choice.origin == "yours" else ""
    return {
        "Group": f"**{choice.knob.group}**" if first else "",
        "Setting": choice.knob.title,
        "Value": f"{bold}{shown(choice.knob, choice.value)}{bold}",
        "From": ORIGINS[choice.origin] + tail,
    }


def remedy(project: Project, _finding: Finding) -> None:
    """The one remedy of gate 2 that a button can do: Prodigy wants a rate of 1."""
    with caught():
        choices.change(project, {"learning_rate": 1.0})


def confirm(project: Project) -> None:
    """Run gate 2 on what was reviewed, and go on when it passes."""
    status = gates.state(project, "config")
    if status.state in ("passed", "blocked") and status.verdict:
        show_findings(status.verdict.findings, key="config_findings", labels={"set-learning-rate": "Set it to 1"},
                      on_action=lambda f: remedy(project, f))  # fmt: skip
    if primary("Confirm and check these settings", key="confirm", icon=":material/task_alt:"):
        with st.spinner("Checking"):
            said = gates.run_gate(project, "config")
        if said.passed:
            go("run")
        st.rerun()
