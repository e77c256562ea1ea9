"""The list of runs that wait, run or have run, as it lies on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from studio import files
from studio.errors import InputError, NotFoundError
from studio.jobs import locks
from studio.project import Project
from studio.workspace import Workspace

FILE = "queue.json"
# What has ended stays on the list for a while, so that one sees in the morning what the night brought.
KEPT_ENDED = 20
MOST_WAITING = 200

Standing = Literal["waiting", "checking", "running", "finished", "failed", "refused"]
ENDED = ("finished", "failed", "refused")
T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """One place on the list.

    settings: as they were when it was added; the run is made with them, whatever is chosen in the project meanwhile.
    state:    waiting; checking (its gates are run); running; finished; failed; refused (a gate did not pass).
    run:      id of the run, once there is one. gpu: number of its card; None without a card.
    why:      why it failed or was refused.
    """

    id: str
    project: str
    title: str
    added: str
    settings: dict[str, Any] = field(default_factory=dict)
    preset: str = ""
    state: Standing = "waiting"
    run: str = ""
    gpu: int | None = None
    why: str = ""

    @property
    def over(self) -> bool:
        return self.state in ENDED

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `--json`; settings left out."""
        return {k: v for k, v in asdict(self).items() if k != "settings"}


def _read(workspace: Workspace) -> list[Item]:
    told = files.read_json(workspace.root / FILE) or {}
    known = set(Item.__dataclass_fields__)
    found = []
    for raw in told.get("items", []):
        try:
            found.append(Item(**{k: v for k, v in raw.items() if k in known}))
        except TypeError:
            continue  # written by hand or by another version; what cannot be read cannot be run
    return found


def items(workspace: Workspace) -> list[Item]:
    """The list: what has ended first, then what runs, then what waits, in order."""
    return _read(workspace)


def waiting(workspace: Workspace) -> list[Item]:
    """What still has to start, the next one first."""
    return [i for i in _read(workspace) if i.state == "waiting"]


def change(workspace: Workspace, how: Callable[[list[Item]], tuple[list[Item], T]]) -> T:
    """Read the list, change it and write it, while nobody else does. how: the list -> the new one and what to return."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    lock = locks.take(workspace.root / "queue.lock", 10.0, busy="The queue is being changed by someone else.")
    try:
        changed, told = how(_read(workspace))
        ended = [i for i in changed if i.over][-KEPT_ENDED:]
        alive = [i for i in changed if i.state in ("checking", "running")]
        rest = [i for i in changed if i.state == "waiting"]
        files.write_json(workspace.root / FILE, {"items": [asdict(i) for i in (*ended, *alive, *rest)]})
        return told
    finally:
        lock.release()


def update(workspace: Workspace, item_id: str, **values: Any) -> None:
    """Change fields of one item; nothing when it is not on the list any more."""
    change(workspace, lambda now: ([replace(i, **values) if i.id == item_id else i for i in now], None))


def add(project: Project) -> Item:
    """Put a run of the project, with its settings as they are now, at the end of the list.

    Raises InputError when too many wait.
    """
    settings = project.settings
    item = Item(
        id=files.new_id("q"),
        project=project.slug,
        title=f"{project.intent.name}: {settings.epochs} epochs, rank {settings.rank}, batch {settings.batch_size}",
        added=files.now(),
        settings=settings.model_dump(mode="json"),
        preset=project.preset,
    )

    def put(now: list[Item]) -> tuple[list[Item], None]:
        if sum(i.state == "waiting" for i in now) >= MOST_WAITING:
            raise InputError(
                "The queue is full.",
                f"{MOST_WAITING} runs wait already.",
                "Remove some, or wait until they have run.",
            )
        return [*now, item], None

    change(project.workspace, put)
    project.decided("run queued", item=item.id, settings=item.settings)
    return item


def _find(now: list[Item], item_id: str) -> Item:
    found = next((i for i in now if i.id == item_id or i.id.endswith(f"-{item_id}")), None)
    if found is None:
        known = ", ".join(i.id for i in now if i.state == "waiting") or "none"
        raise NotFoundError(
            f"There is nothing called '{item_id}' in the queue.",
            f"Waiting are: {known}.",
            "Choose one of them.",
        )
    return found


def _waiting(now: list[Item], item_id: str, verb: str) -> Item:
    found = _find(now, item_id)
    if found.state in ("checking", "running"):
        raise InputError(
            f"{found.id} cannot be {verb}.",
            f"It is {found.state}.",
            "Stop its run instead." if found.run else "Wait until it runs.",
        )
    return found


def move(workspace: Workspace, item_id: str, place: int) -> Item:
    """Put a waiting run at `place` among those that wait, 1 being the next; beyond the end means last.

    Raises NotFoundError, InputError when it does not wait or the place is below 1.
    """
    if place < 1:
        raise InputError(f"There is no place {place}.", "The next run has place 1.", "Give 1 or more.")

    def put(now: list[Item]) -> tuple[list[Item], Item]:
        found = _waiting(now, item_id, "moved")
        if found.state != "waiting":
            raise InputError(
                f"{found.id} cannot be moved.", f"It is {found.state}.", "Only what waits has a place."
            )
        others = [i for i in now if i.state == "waiting" and i.id != found.id]
        others.insert(place - 1, found)
        return [*(i for i in now if i.state != "waiting"), *others], found

    return change(workspace, put)


def remove(workspace: Workspace, item_id: str) -> Item:
    """Take a run off the list that waits or has ended; its run, if there is one, stays. Raises NotFoundError, InputError."""

    def take(now: list[Item]) -> tuple[list[Item], Item]:
        found = _waiting(now, item_id, "removed")
        return [i for i in now if i.id != found.id], found

    return change(workspace, take)
