"""The intent interview: which base models fit this computer, and whether a trigger word is a good one."""

from __future__ import annotations

from dataclasses import dataclass

from studio.captions.store import CaptionStore, EditResult
from studio.captions.trigger import pieces, reading_problems, unlike
from studio.errors import StudioError
from studio.estimate import estimate, file_of
from studio.files import human_memory
from studio.findings import Finding, blocking
from studio.machine import Machine, detect
from studio.models import UPLOADED, BaseModelEntry, get_model, list_models
from studio.presets import default_for, fill
from studio.project import KINDS, Project, propose_trigger, trigger_problems
from studio.workspace import Workspace


@dataclass(frozen=True)
class Offer:
    """A base model as the interview offers it.

    here: its files are on this computer.  fits: training it fits into the memory, with a margin.
    why:  one sentence on both.
    """

    entry: BaseModelEntry
    here: bool
    fits: bool
    why: str

    @property
    def ready(self) -> bool:
        """Whether it can be trained now."""
        return self.here and self.fits


def offers(workspace: Workspace, kind: str = "style", machine: Machine | None = None) -> list[Offer]:
    """All base models, those that can be trained here and now first, the ones too large for this computer last."""
    machine = machine or detect()
    found = [_offer(workspace, entry, kind, machine) for entry in list_models(workspace)]
    # What is paid for comes after what trains here.
    return sorted(found, key=lambda o: (not o.ready, o.entry.format == "cloud", not o.fits, not o.here))


def _offer(workspace: Workspace, entry: BaseModelEntry, kind: str, machine: Machine) -> Offer:
    here = entry.location(workspace) is not None
    if entry.format == "cloud":
        return Offer(entry, True, True, "Trained on Replicate's computers for money; this computer only waits. "
                     f"{UPLOADED} The studio says the cost before anything is spent.")  # fmt: skip
    pictures = int(KINDS[kind]["images"][0])
    settings = fill(default_for(workspace, entry), entry, pictures, machine)
    need = estimate(entry.family, settings, [pictures * settings.repeats], file=file_of(entry, workspace))
    fits = need.fits(machine.memory_bytes)
    memory = (
        f"about {human_memory(need.memory_bytes)} of this computer's {human_memory(machine.memory_bytes)}"
    )
    if not fits:
        why = f"Too large for this computer: it needs {memory}, where a fifth stays free."
    elif entry.embedded:
        why = f"Comes with the studio and runs on any computer: it needs {memory}."
    elif here:
        why = f"It is on this computer and fits: it needs {memory}."
    else:
        why = f"It would fit ({memory}), but its files are not here yet."
    if fits and not machine.gpus and not entry.embedded:
        why += " Without a graphics card it trains very slowly."
    return Offer(entry, here, fits, why)


def check_trigger(trigger: str, workspace: Workspace, base_model: str = "") -> list[Finding]:
    """What is wrong with a trigger word; with a base model also how that model reads it."""
    found = trigger_problems(trigger)
    if blocking(found) or not base_model:
        return found
    try:
        entry = get_model(workspace, base_model)
    except StudioError:
        return found
    return found + reading_problems(trigger, pieces(trigger, entry, workspace), entry.title)


def trigger_words(trigger: str, workspace: Workspace, base_model: str) -> str:
    """How a base model reads a trigger word, such as "read as blu + pr + nt"; empty when its tokenizer is not here."""
    try:
        read = pieces(trigger, get_model(workspace, base_model), workspace)
    except StudioError:
        return ""
    return f"read as {' + '.join(read)}" if read else ""


def suggest_trigger(name: str, workspace: Workspace, base_model: str = "") -> str:
    """A trigger word for a name that nothing speaks against."""
    word = propose_trigger(name)
    bare = unlike(word)
    better = (word, bare, f"{bare[:9]}xq", f"{bare[:3]}zqx")
    return next((w for w in better if not check_trigger(w, workspace, base_model)), f"{word[:9]}xq")


def change_trigger(project: Project, trigger: str) -> EditResult:
    """Another trigger word for a project: in its intent, and leading every caption as one undoable step.

    Raises InputError when the word cannot work; nothing is changed then.
    """
    intent = project.intent
    if trigger == intent.trigger:
        return EditResult()
    project.save_intent(intent.model_copy(update={"trigger": trigger}))
    project.decided("trigger word changed", before=intent.trigger, after=trigger)
    return CaptionStore(project).retrigger(intent.trigger, trigger)
