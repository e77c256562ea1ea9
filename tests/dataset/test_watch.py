"""Looking at a large folder from a page: nothing is listed twice, and nothing that changed is missed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.captions import reading
from studio.captions.store import CaptionStore
from studio.dataset import watch
from studio.dataset.folder import captions_lock, dataset_lock, full_look, look, one_look, wrote
from studio.dataset.listing import list_folder
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watch, "MANY", 60)
    watch._snapshots.clear()  # what other tests looked at is not to be watched now
    yield
    watch.stop_watching()
    assert "dataset-watch" not in {t.name for t in threading.enumerate()}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = create_project(Workspace(tmp_path), Intent(kind="style", name="Many", trigger="manyxq"))
    made.dataset_dir.mkdir(exist_ok=True)
    for n in range(watch.MANY // 2 + 1):
        (made.dataset_dir / f"p{n:04}.png").write_bytes(b"a")
        (made.dataset_dir / f"p{n:04}.txt").write_bytes(b"manyxq")
    for (
        path
    ) in made.dataset_dir.iterdir():  # what was written just now would be read again, however it is listed
        os.utime(path, (time.time() - 60, time.time() - 60))
    return made


@pytest.fixture
def rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is listed in the background during a test that forbids listing."""
    monkeypatch.setattr(watch, "AT_LEAST_S", 3600.0)
    monkeypatch.setattr(watch, "AT_MOST_S", 3600.0)


def seen(folder: Path) -> watch.Listing:
    """What a page sees."""
    with one_look():
        return look(folder)


def same_size(path: Path, content: bytes, later_ns: int = 10**9) -> None:
    """Another program changes a file in place: neither its name nor the time of its folder change."""
    time_before = path.parent.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + later_ns))
    assert path.parent.stat().st_mtime_ns == time_before


def test_a_page_does_not_list_what_it_knows(
    project: Project, rarely: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.dataset_dir
    first = seen(folder)
    monkeypatch.setattr(watch, "list_folder", lambda _: pytest.fail("listed again"))
    assert seen(folder) is first


def test_a_file_that_comes_goes_or_is_replaced_is_seen_by_the_next_page(project: Project) -> None:
    folder = project.dataset_dir
    first = seen(folder)
    (folder / "new.png").write_bytes(b"a")
    second = seen(folder)
    assert "new.png" in second.pictures and second.captions is first.captions
    (folder / "new.png").unlink()
    assert "new.png" not in seen(folder).pictures
    (folder / "aside.tmp").write_bytes(b"other words")
    os.replace(folder / "aside.tmp", folder / "p0001.txt")
    third = seen(folder)
    assert third.captions["p0001"] != first.captions["p0001"]
    assert third.captions["p0002"] is first.captions["p0002"]  # what did not change is the same object


def test_what_another_program_changes_in_place_is_noticed_while_somebody_looks(project: Project) -> None:
    folder = project.dataset_dir
    first = seen(folder)
    assert seen(folder) is first  # the watching has begun
    same_size(folder / "p0003.txt", b"manyxz")
    limit = time.monotonic() + 60
    while seen(folder) is first and time.monotonic() < limit:
        time.sleep(0.05)
    now = seen(folder)
    assert now.captions["p0003"] != first.captions["p0003"] and now.pictures is first.pictures


def test_after_a_silence_the_first_look_lists(project: Project) -> None:
    folder = project.dataset_dir
    first = seen(folder)
    same_size(folder / "p0003.txt", b"manyxz")
    watch._snapshots[folder].wanted -= watch.IDLE_S + 1
    assert seen(folder).captions["p0003"] != first.captions["p0003"]


def test_an_old_snapshot_is_not_believed_when_the_watcher_is_late(project: Project) -> None:
    folder = project.dataset_dir
    first = seen(folder)
    same_size(folder / "p0003.txt", b"manyxz")
    watch._snapshots[folder].checked -= 3600
    assert seen(folder).captions["p0003"] != first.captions["p0003"]


def test_outside_of_a_page_in_a_gate_and_under_a_lock_every_file_is_asked(project: Project) -> None:
    folder = project.dataset_dir
    with one_look():
        first = look(folder)
        same_size(folder / "p0003.txt", b"manyxz")
        assert look(folder) is first  # one page sees one state
        with full_look():
            assert look(folder).captions["p0003"] != first.captions["p0003"]
        second = look(folder)
        same_size(folder / "p0004.txt", b"manyxz")
        with captions_lock(project):
            assert look(folder).captions["p0004"] != second.captions["p0004"]
    same_size(folder / "p0005.txt", b"manyxz")
    assert look(folder).captions["p0005"] != first.captions["p0005"]


def test_our_own_write_is_seen_at_once_without_listing(
    project: Project, rarely: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.dataset_dir
    with one_look():
        first = look(folder)
        monkeypatch.setattr(watch, "list_folder", lambda _: pytest.fail("listed again"))
        with captions_lock(project):
            (folder / "new.tmp").write_bytes(b"longer words")
            os.replace(folder / "new.tmp", folder / "p0001.txt")
            (folder / "p0002.txt").unlink()
            (folder / "a.png").write_bytes(b"a")
            wrote(folder, ["p0001.txt", "p0002.txt", "a.png"])
        now = look(folder)
    assert now.captions["p0001"] != first.captions["p0001"] and "p0002" not in now.captions
    assert next(iter(now.pictures)) == "a.png"
    assert seen(folder) is now


def test_a_click_on_approved_lists_nothing_and_touches_no_file(
    project: Project, rarely: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store, name = project.dataset_dir, CaptionStore(project), "p0001.png"
    (folder / "p0001.txt").write_bytes(b"manyxq, a boat")
    with one_look():
        look(folder)
        monkeypatch.setattr(watch, "list_folder", lambda _: pytest.fail("listed again"))
    first = seen(folder)
    for click, state in (("approve", "approved"), ("approve", "approved"), ("unapprove", "needs review")):
        getattr(store, click)([name])  # the second one has nothing to do, but holds the lock
        assert seen(folder) is first
        assert store.of(first)[name].status == state
    store.undo()
    assert seen(folder) is first and store.of(first)[name].status == "approved"


def test_a_writer_inside_another_lock_does_not_hide_what_was_written_there(project: Project) -> None:
    folder = project.dataset_dir
    first = seen(folder)
    with dataset_lock(project):
        same_size(folder / "p0001.txt", b"manyxz")
        CaptionStore(project).approve([])
    assert seen(folder).captions["p0001"] != first.captions["p0001"]


def test_what_we_write_while_the_folder_is_being_listed_is_neither_lost_nor_listed_again(
    project: Project, rarely: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, listed = project.dataset_dir, []
    first = seen(folder)

    def slowly(path: Path) -> watch.Listing:
        found = list_folder(path)
        listed.append(path)
        CaptionStore(project).set("p0002.png", "typed meanwhile")
        return found

    monkeypatch.setattr(watch, "list_folder", slowly)
    watch._list(folder)  # as the thread that watches does
    now = seen(folder)
    assert now.captions["p0002"] != first.captions["p0002"] and listed == [folder]


def test_captions_that_nobody_edited_yet_are_not_put_together_anew_at_every_page(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CaptionStore(project)
    assert not store.history()
    before = store.of(seen(project.dataset_dir))
    monkeypatch.setattr(reading.CaptionReader, "_anew", lambda *_: pytest.fail("put together anew"))
    assert CaptionStore(project).of(seen(project.dataset_dir)) is before
    store.set("p0003.png", "the first edit")
    assert store.of(seen(project.dataset_dir))["p0003.png"].by == "written by you"


def test_captions_follow_our_own_write_without_comparing_all_stamps(
    project: Project, rarely: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = project.dataset_dir, CaptionStore(project)
    seen(folder)
    before = store.of(seen(folder))
    monkeypatch.setattr(reading, "_other_stamps", lambda *_: pytest.fail("all stamps were compared"))
    store.set("p0003.png", "typed just now")
    after = store.of(seen(folder))
    assert [n for n in after if after[n] is not before[n]] == ["p0003.png"]
    assert after["p0003.png"].text == "manyxq, typed just now"


def test_a_write_nobody_told_of_is_listed_whatever_the_folders_time_says(project: Project) -> None:
    folder = project.dataset_dir
    first = seen(folder)
    with captions_lock(project):
        same_size(folder / "p0001.txt", b"manyxz")
    assert seen(folder).captions["p0001"] != first.captions["p0001"]


def test_a_write_of_another_process_between_ours_is_noticed(project: Project) -> None:
    folder = project.dataset_dir
    first = seen(folder)
    with captions_lock(project):
        (folder / "theirs.png").write_bytes(b"a")  # hidden by ours, which changes the folder's time, too
        (folder / "p0001.txt").write_bytes(b"longer words")
        wrote(folder, ["p0001.txt"])
    assert seen(folder).captions["p0001"] != first.captions["p0001"]
    limit = time.monotonic() + 60
    while "theirs.png" not in seen(folder).pictures and time.monotonic() < limit:
        time.sleep(0.05)
    assert "theirs.png" in seen(folder).pictures


def test_the_watching_ends_when_nobody_looks(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project.dataset_dir
    seen(folder)
    seen(folder)
    thread = watch._watcher
    assert thread is not None
    monkeypatch.setattr(watch, "IDLE_S", -1.0)
    thread.join(timeout=60)
    assert watch._watcher is None


def test_two_projects_do_not_mix(project: Project, tmp_path: Path) -> None:
    other = create_project(Workspace(tmp_path / "b"), Intent(kind="style", name="Many", trigger="manyxq"))
    other.dataset_dir.mkdir(exist_ok=True)
    (other.dataset_dir / "x.png").write_bytes(b"a")
    with one_look():
        assert len(look(other.dataset_dir).pictures) == 1
        assert len(look(project.dataset_dir).pictures) == watch.MANY // 2 + 1


def test_a_gate_on_a_page_sees_what_was_changed_in_place(project: Project) -> None:
    """The verdict's fingerprint is of the files as they are, not of what the page remembers."""
    from studio.gates import current_fingerprint, run_gate

    folder = project.dataset_dir
    with one_look():
        before = current_fingerprint(project, "dataset")
        same_size(folder / "p0003.txt", b"manyxz")
        assert current_fingerprint(project, "dataset") == before
        judged = run_gate(project, "dataset").fingerprint
        assert judged != before
        assert current_fingerprint(project, "dataset") == judged
