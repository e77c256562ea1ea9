"""Beside the choices, always in sight: what the run takes."""

import streamlit as st

from pages.parts.charts import memory_bar
from pages.parts.gates_view import gate_badge
from pages.parts.nav import link
from studio import choices, gates, presets
from studio.estimate import Estimate
from studio.files import human_memory, human_size, human_time
from studio.machine import detect
from studio.project import Project
from studio.settings import TrainingSettings
from studio.training.replicate import cost_words


def time_words(told: Estimate, preset: presets.Preset | None = None) -> str:
    """How long it takes: reckoned from the steps that a dry run measured where one fits, else what the preset says, and for which
    computer it says it."""
    if told.seconds is not None and told.memory_bytes:  # elsewhere nothing was measured here
        return f"about {human_time(told.seconds)}, from steps measured here"
    if preset is None:
        return "the dry run will measure it"
    if detect().device == "cpu" and told.memory_bytes and "CPU" not in preset.time:
        return f"{preset.time}; much longer on this computer, which has no graphics card: the dry run measures it"
    return preset.time


def memory_words(told: Estimate) -> str:
    """What the number rests on, and which moment of the run takes the most."""
    fullest = max(told.phases, key=lambda name: told.phases[name], default="Training")
    moment = (
        ""
        if fullest == "Training"
        else f" The most is taken for a moment before or between the steps: {fullest.lower()}."
    )
    return f"{told.known_words} The true peak can lie {told.band_words} it.{moment}"


def upper_first(words: str) -> str:
    """The words as a sentence begins; `capitalize` would also turn CPU into cpu."""
    return words[:1].upper() + words[1:]


def beside(project: Project, settings: TrainingSettings) -> None:
    """The estimate; it moves as choices move."""
    machine = detect()
    told = gates.forecast(project, settings)
    st.markdown(
        "**What it takes**",
        help="Estimates say so. Once the dry run has measured real steps, its figures count.",
    )
    if not told.steps.total_steps:
        st.caption("Add pictures first: steps, time and memory depend on them.")
        link("dataset", "Add pictures", icon=":material/add_photo_alternate:")
        return
    preset = choices.current_preset(project)
    untouched = preset is not None and choices.reference(project) == settings
    plan = told.steps
    cost = cost_words(settings, choices.entry_of(project).family, plan.total_steps)
    if cost:
        shown = upper_first(cost).replace(
            "$", "\\$"
        )  # else two of them would set what is between as a formula
        st.markdown(f":material/payments: **Cost on Replicate**  \n{shown}")
        st.markdown(f":material/steps: **Steps**  \n{plan.total_steps}")
        st.caption("A forecast. Nothing is spent before all four gates pass and you start the run.")
        gate_badge(project, "config")
        return
    st.markdown(
        f":material/timer: **Time**  \n{upper_first(time_words(told, preset if untouched else None))}"
    )
    st.markdown(
        f":material/steps: **Steps**  \n{plan.total_steps} in {plan.epochs} epochs of {plan.steps_per_epoch}"
    )
    where = "Graphics memory" if machine.gpus else "Memory"
    st.markdown(f":material/memory: **{where}** :small[:gray[{told.basis}]]")
    memory_bar(told, machine.memory_bytes)
    if not told.fits(machine.memory_bytes):
        st.markdown(
            f":red[:material/block: Too much for this computer.] {told.short_of(machine.memory_bytes)[1]}"
        )
    with st.expander("Where the memory goes"):
        st.table({part: human_memory(size) for part, size in told.terms.items()}, border="horizontal")
        st.caption(memory_words(told))
    st.markdown(f":material/hard_drive: **Disk**  \nabout {human_size(told.disk_bytes)}; each LoRA file "
                f"{human_size(told.lora_bytes)}")  # fmt: skip
    st.markdown(":material/payments: **Cost**  \nNothing: it runs on this computer.")
    gate_badge(project, "config")
