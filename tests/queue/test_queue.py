"""Runs that wait for their turn: order, two who change it at once, a reboot, refusals, and ten of them."""

from __future__ import annotations

import os
import threading

import pytest

from studio import files, gates, launch, queue
from studio.errors import BusyError, GateError, InputError, NotFoundError
from studio.jobs.job import Job
from studio.project import Project, open_project
from studio.queue import book, runner
from studio.settings import parse_settings
from studio.training.runs import Run
from studio.workspace import Workspace
from tests.helpers import sample_project


class Desk:
    """A worker that is never asked to stop, and that does not wait."""

    should_stop = False

    def __init__(self) -> None:
        self.waits = 0

    def progress(self, *_: object, **__: object) -> None:
        """Says nothing."""

    def sleep(self, _seconds: float) -> bool:
        self.waits += 1
        assert self.waits < 500, "the queue does not come to its end"
        return False


@pytest.fixture
def project(workspace: Workspace) -> Project:
    return sample_project(workspace, pictures=5)


def ids(workspace: Workspace) -> list[str]:
    return [i.id for i in queue.waiting(workspace)]


def test_order_is_kept_changed_and_found_again(project: Project) -> None:
    workspace = project.workspace
    a, b, c = (queue.add(project).id for _ in range(3))
    assert ids(workspace) == [a, b, c]
    queue.move(workspace, c, 1)
    assert ids(workspace) == [c, a, b]
    queue.move(workspace, c, 99)
    assert ids(workspace) == [a, b, c]
    queue.remove(workspace, b)
    assert ids(Workspace(workspace.root)) == [a, c], "it is on the disk"
    for wrong, error, words in (
        (lambda: queue.move(workspace, "nothing", 1), NotFoundError, a),
        (lambda: queue.move(workspace, a, 0), InputError, "no place 0"),
        (lambda: queue.remove(workspace, b), NotFoundError, "called"),
    ):
        with pytest.raises(error, match=words):
            wrong()
    book.update(workspace, a, state="running", run="run-1")
    with pytest.raises(InputError, match="cannot be removed"):
        queue.remove(workspace, a)


def test_two_browsers_lose_nothing(project: Project) -> None:
    threads = [threading.Thread(target=lambda: [queue.add(project) for _ in range(5)]) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(ids(project.workspace))) == 10


def test_ten_in_a_row_one_at_a_time(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gates and the launch are stood in for; order, settings and turns are the queue's own."""
    workspace, mine = project.workspace, project.settings
    for rank in range(1, 11):
        project.save_settings(mine.model_copy(update={"rank": rank}))
        queue.add(project)
    project.save_settings(mine)
    alive: list[str] = []
    seen: list[int] = []

    def start(wanted: Project, gpu: int | None = None, queued: str = "") -> Run:
        assert not alive, "one at a time"
        if wanted.settings.rank == 4:
            raise GateError("Training was not started.", "The dry run failed.", "Mend it.")
        folder = wanted.runs_dir / files.new_id("run")
        files.write_json(folder / "job.json", {"attempt": 1})
        state = "failed" if wanted.settings.rank == 7 else "finished"
        told = {"attempt": 1, "state": state, "error": {"what": "It broke."} if state == "failed" else None}
        files.write_json(folder / "exit.json", told)
        alive.append(folder.name)
        seen.append(wanted.settings.rank)
        return Run(folder)

    def looked(_seconds: float) -> bool:
        alive.pop()
        return False

    desk = Desk()
    monkeypatch.setattr(desk, "sleep", looked)
    monkeypatch.setattr(launch, "start_training", start)
    monkeypatch.setattr(launch, "busy_cards", lambda _w: [None] * len(alive))
    monkeypatch.setattr(gates, "run_gate", lambda *_: type("V", (), {"passed": True}))
    done = runner.serve(desk, {"workspace": str(workspace.root)})  # type: ignore[arg-type]
    assert seen == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert done == {"started": 9, "refused": 1}
    by_rank = {i.settings["rank"]: i for i in queue.items(workspace)}
    assert (by_rank[4].state, by_rank[7].state, by_rank[10].state) == ("refused", "failed", "finished")
    assert "Training was not started." in by_rank[4].why and by_rank[7].why == "It broke."
    assert project.settings == mine, "what was chosen in the project meanwhile is there again"


def test_one_on_each_card(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from studio.machine import Gpu, detect

    two = dataclasses.replace(detect(), gpus=(Gpu("A", 2**34, "1", 0), Gpu("B", 2**34, "1", 1)))
    monkeypatch.setattr(runner, "detect", lambda: two)
    queue.add(project)
    now = queue.items(project.workspace)
    for busy, card in (([], 0), ([0], 1), ([1], 0)):
        monkeypatch.setattr(launch, "busy_cards", lambda _w, busy=busy: busy)
        assert runner._next(project.workspace, now) == (now[0], card)
    for busy in ([0, 1], [None]):
        monkeypatch.setattr(launch, "busy_cards", lambda _w, busy=busy: busy)
        assert runner._next(project.workspace, now) == (None, None)


# As `nvidia-smi` answers: two cards of different size, and one that was lost.
MIXED = """0, NVIDIA GeForce RTX 3060, 12288, 580.95.05
1, NVIDIA GeForce RTX 4090, 24564, 580.95.05
2, [GPU is lost], [GPU is lost], [GPU is lost]
"""
GB = 2**30


def test_cards_of_different_size() -> None:
    from studio.machine import card_env, parse_cards, visible

    small, large = cards = parse_cards(MIXED)
    assert [(c.index, c.vram_bytes) for c in cards] == [(0, 12288 << 20), (1, 24564 << 20)]
    for need, busy, card in (
        (8 * GB, set(), 0), (8 * GB, {0}, 1), (8 * GB, {0, 1}, None),
        (16 * GB, set(), 1), (16 * GB, {0}, 1), (16 * GB, {1}, None),
        (90 * GB, set(), 1), (90 * GB, {1}, None), (0, {0}, 1),
    ):  # fmt: skip
        assert runner.suitable(need, cards, busy) == card, (need, busy)
    assert visible(cards, None) == visible(cards, "0,1") == visible(cards, "GPU-8f3,GPU-9") == cards
    assert (visible(cards, "1"), visible(cards, "0,9,1"), visible(cards, "-1"), visible(cards, "")) == (
        (large,), (small,), (), ()
    )  # fmt: skip
    # CUDA by itself numbers by speed, and its number 0 may be another card than that of nvidia-smi.
    assert card_env(None, cards) == {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert card_env(0, cards)["CUDA_VISIBLE_DEVICES"] == "0" and card_env(None, (large,)) == {}


def test_a_large_run_waits_for_the_large_card_and_a_small_one_goes_first(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from studio.machine import detect, parse_cards

    mixed = dataclasses.replace(detect(), gpus=parse_cards(MIXED))
    monkeypatch.setattr(runner, "detect", lambda: mixed)
    big, little = queue.add(project), queue.add(project)
    needs = {big.id: 16 * GB, little.id: 8 * GB}
    monkeypatch.setattr(runner, "_needs", lambda _w, item: needs[item.id])
    now = queue.items(project.workspace)
    for busy, wanted in (([], (big, 1)), ([1], (little, 0)), ([0], (big, 1)), ([0, 1], (None, None))):
        monkeypatch.setattr(launch, "busy_cards", lambda _w, busy=busy: busy)
        assert runner._next(project.workspace, now) == wanted


def test_the_gates_of_a_queued_run_judge_by_its_own_card(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from studio import machine

    monkeypatch.setattr(machine, "_gpus", lambda: machine.parse_cards(MIXED))
    machine._whole.cache_clear()
    machine._detected.cache_clear()
    try:
        assert machine.detect().memory_bytes == 24564 << 20
        with runner._on_card(0):
            assert machine.detect().memory_bytes == 12288 << 20
            assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert machine.detect().memory_bytes == 24564 << 20
    finally:
        machine._whole.cache_clear()
        machine._detected.cache_clear()


def test_two_windows_order_the_list(project: Project) -> None:
    """Each sees an order of its own when it presses; nothing is lost or doubled, and the last word about a run counts."""
    workspace = project.workspace
    a, b, c, d = (queue.add(project).id for _ in range(4))
    threads = [
        threading.Thread(target=lambda i=i, p=p: [queue.move(workspace, i, p) for _ in range(10)])
        for i, p in ((d, 1), (a, 4), (c, 2), (b, 3))
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(ids(workspace)) == sorted([a, b, c, d])
    first = ids(workspace)[0]
    queue.remove(workspace, first)  # in one window
    with pytest.raises(NotFoundError, match="Waiting are"):
        queue.move(workspace, first, 2)  # in the other, which still shows it
    book.update(workspace, a, state="running", run="run-1")
    if a != first:
        with pytest.raises(InputError, match="cannot be moved"):
            queue.move(workspace, a, 1)


def test_after_a_reboot_it_goes_on(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was being checked waits again, and what trained is told as it ended; `wake` starts one worker, not two."""
    workspace = project.workspace
    a, b = queue.add(project), queue.add(project)
    book.update(workspace, a.id, state="checking")
    book.update(workspace, b.id, state="running", run="run-gone")
    started: list[str] = []
    monkeypatch.setattr(
        runner, "launch_call", lambda folder, *_a, **_k: started.append(folder.name) or Job(folder)
    )
    assert queue.wake(workspace) is not None and len(started) == 1
    tried: list[str] = []

    def refuse(wanted: Project, gpu: int | None = None, queued: str = "") -> Run:
        tried.append(wanted.slug)
        raise GateError("No.", "", "")

    monkeypatch.setattr(launch, "start_training", refuse)
    monkeypatch.setattr(gates, "run_gate", lambda *_: type("V", (), {"passed": False}))
    runner.serve(Desk(), {"workspace": str(workspace.root)})  # type: ignore[arg-type]
    assert tried == [project.slug]
    assert {i.id: i.state for i in queue.items(workspace)} == {a.id: "refused", b.id: "failed"}
    assert queue.wake(workspace) is None, "nothing waits any more"


def test_someone_who_trains_by_hand_is_waited_for(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    item = queue.add(project)

    def busy(*_a: object, **_k: object) -> Run:
        raise BusyError("Another training is going on: x.", "", "")

    monkeypatch.setattr(launch, "start_training", busy)
    monkeypatch.setattr(gates, "run_gate", lambda *_: type("V", (), {"passed": True}))
    assert not runner.start(project.workspace, item, None)
    assert queue.waiting(project.workspace) == [item]


def test_a_damaged_list_is_an_empty_one(workspace: Workspace) -> None:
    workspace.root.mkdir(parents=True, exist_ok=True)
    files.write_json(workspace.root / book.FILE, {"items": [{"nonsense": 1}, {"id": "q-1", "project": "p", "title": "t", "added": "", "later": 1}]})  # fmt: skip
    assert [i.id for i in queue.items(workspace)] == ["q-1"]
    assert not runner.start(workspace, queue.items(workspace)[0], None)
    assert queue.items(workspace)[0].state == "refused"


@pytest.mark.slow
@pytest.mark.skipif(
    "STUDIO_REAL_QUEUE" not in os.environ, reason="trains twice, for minutes; set STUDIO_REAL_QUEUE to do it"
)
def test_two_real_runs_one_after_the_other(workspace: Workspace) -> None:
    project = sample_project(workspace, pictures=5, sample_every_epochs=0)
    first = queue.add(project)
    project.save_settings(parse_settings({**project.settings.model_dump(mode="json"), "rank": 2}))
    second = queue.add(project)
    job = queue.wake(workspace)
    assert job is not None and job.wait(timeout=400) == "finished", job and job.log_tail()
    done = {i.id: i for i in queue.items(workspace)}
    assert [done[i].state for i in (first.id, second.id)] == ["finished", "finished"], done
    runs = [Run(open_project(workspace, project.slug).runs_dir / done[i].run) for i in (first.id, second.id)]
    assert [r.settings.rank for r in runs] == [first.settings["rank"], 2]
    assert runs[0].job.exit["ended_at"] <= runs[1].job.created  # type: ignore[index]
