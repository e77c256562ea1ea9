"""Five samples first, then the batch as a job: enforced, stopped, killed, gone on with, and never over a person's words."""

from __future__ import annotations

import math
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from studio import files
from studio.captions import auto, samples
from studio.captions.auto import AutoSettings
from studio.captions.batch import last_job, plan, start_batch, start_samples
from studio.captions.store import CaptionStore
from studio.captions.tagger import TaggerSettings
from studio.captions.workers.work import _Batch, batch_job
from studio.dataset.intake import import_pictures
from studio.dataset.scan import scan
from studio.errors import BusyError, GateError, InputError, NotFoundError
from studio.jobs.job import Job
from studio.jobs.lifeline import Worker
from studio.project import Project
from tests.captions.auto.conftest import painted, reviewed
from tests.captions.auto.slow import slowly

EXPECTED = {
    "a_red.png": "mirastyle, red theme, long hair, >_<, outdoors, red riding hood (grimm)",
    "b_green.png": "mirastyle, green theme, (o)_(o), outdoors, hatsune miku",
    "c_blue.png": "mirastyle, blue theme, outdoors, hatsune miku",
}


def done(job: Job) -> dict:  # type: ignore[type-arg]
    assert job.wait(60) == "finished", (job.error, job.log_tail())
    return dict(job.result)


def test_five_samples_then_the_rest(project: Project, tagging: AutoSettings) -> None:
    made = reviewed(project)
    assert len(made.items) == 5 and len({s.name for s in made.items}) == 5
    engine = auto.ready(project)
    before = plan(project, engine)
    assert before.plan.counts == {"write": 2, "kept": 0, "there": 5}
    assert before.label.startswith("Write 2 captions")
    result = done(start_batch(project))
    assert result["written"] == 2 and result["errors"] == []
    store = CaptionStore(project)
    every = store.all()
    for name, text in EXPECTED.items():
        assert every[name].text == text
        assert every[name].by_machine and every[name].author == "stand-in"
    assert {c.status for c in every.values()} == {"approved", "needs review"}
    assert plan(project, engine).plan.counts["write"] == 0
    with pytest.raises(InputError, match="no caption to write"):
        start_batch(project)
    store.undo()  # one undo takes the whole batch back, the samples stay
    assert sum(bool(c.text) for c in CaptionStore(project).all().values()) == 5


@pytest.mark.usefixtures("inline")
def test_no_batch_without_review(project: Project, tagging: AutoSettings) -> None:
    with pytest.raises(GateError, match="not written") as e:
        start_batch(project)
    assert "No samples" in e.value.why
    job = start_samples(project)
    assert job.wait(60) == "finished", job.error
    made = samples.load(project)
    assert made is not None
    for n, sample in enumerate(made.items):
        with pytest.raises(GateError) as e:
            start_batch(project)
        assert f"{5 - n} of 5" in e.value.why
        samples.review(project, sample.name, "skipped")
    with pytest.raises(GateError) as e:
        start_batch(project)
    assert "skipped every" in e.value.why
    samples.review(project, made.items[0].name, "adjusted", "a fine red")
    path = project.folder / "captions" / "samples.json"
    whole = files.read_json(path)
    for fewer in (whole["items"][:1], whole["items"][:1] * 5):  # somebody who finds five too many
        files.write_json(path, {**whole, "items": fewer, "wanted": 1})
        with pytest.raises(GateError) as e:
            start_batch(project)
        assert "1 of 5" in e.value.why
    files.write_json(path, whole)
    assert start_batch(project).wait(60) == "finished"


@pytest.mark.usefixtures("inline")
def test_any_change_makes_the_review_stale(
    project: Project, tagging: AutoSettings, tagger_folder: Path
) -> None:
    reviewed(project)
    for changed in (
        {"general": 0.4}, {"exclude": ("outdoors",)}, {"mcut": True}, {"underscores": True}, {"order": "confidence"},
        {"resize": "area"},
    ):  # fmt: skip
        auto.save(project, tagging.model_copy(update={"tagger": tagging.tagger.model_copy(update=changed)}))
        with pytest.raises(GateError) as e:
            start_batch(project)
        assert "other settings" in e.value.why, changed
    # What does not change a word does not make it stale.
    auto.save(
        project,
        tagging.model_copy(
            update={"mode": "append", "tagger": tagging.tagger.model_copy(update={"batch": 2})}
        ),
    )
    assert samples.state(project, auto.ready(project)).passed


def test_the_job_asks_again(project: Project, tagging: AutoSettings, tmp_path: Path) -> None:
    """Whoever starts the worker directly is refused as well."""
    engine = auto.ready(project)
    payload = {
        "workspace": str(project.workspace.root), "project": project.slug, "names": ["a_red.png"],
        "auto": tagging.model_dump(mode="json"), "fingerprint": engine.fingerprint,
    }  # fmt: skip
    with pytest.raises(GateError):
        batch_job(Worker(tmp_path / "job"), payload)
    with pytest.raises(GateError, match="not made"):
        batch_job(Worker(tmp_path / "job"), {**payload, "fingerprint": "0" * 16})
    assert not any(c.text for c in CaptionStore(project).all().values())


@pytest.mark.usefixtures("inline")
def test_a_persons_words_stay(project: Project, tagging: AutoSettings) -> None:
    store = CaptionStore(project)
    store.set("a_red.png", "my own red words")
    made = reviewed(project)
    assert "a_red.png" not in {s.name for s in made.items}  # pictures that would be written come first
    assert start_batch(project).wait(60) == "finished"
    assert store.get("a_red.png").text == "mirastyle, my own red words"
    assert store.get("a_red.png").author == "person"
    # Corrected words are a person's as well.
    store.set("c_blue.png", "corrected")
    auto.save(
        project,
        tagging.model_copy(update={"tagger": TaggerSettings(model=tagging.tagger.model, general=0.2)}),
    )
    reviewed(project)
    counts = plan(project, auto.ready(project)).plan.counts
    assert (
        counts["kept"] == 3 and sum(counts.values()) == 7
    )  # two of a person, one of an engine that a person approved
    assert counts["write"] == 0
    assert store.get("c_blue.png").text == "mirastyle, corrected"
    assert store.get("a_red.png").text == "mirastyle, my own red words"


@pytest.mark.usefixtures("inline")
def test_verdicts_write_captions(project: Project, tagging: AutoSettings) -> None:
    assert start_samples(project).wait(60) == "finished"
    made = samples.load(project)
    assert made is not None
    first, second, third = (s.name for s in made.items[:3])
    samples.review(project, first, "approved")
    samples.review(project, second, "adjusted", "mirastyle, a better caption")
    samples.review(project, third, "skipped")
    every = CaptionStore(project).all()
    assert (every[first].author, every[first].status) == ("stand-in", "approved")
    assert (every[second].author, every[second].text) == ("person", "mirastyle, a better caption")
    assert every[third].text == ""
    again = samples.load(project)
    assert again is not None and again.examples == (made.get(first).proposal.caption, "a better caption")
    with pytest.raises(InputError, match="empty"):
        samples.review(project, third, "adjusted", "mirastyle,  ")
    with pytest.raises(NotFoundError, match="not among"):
        samples.review(project, "nope.png", "approved")
    with pytest.raises(InputError, match="verdict"):
        samples.review(project, third, "fine")  # type: ignore[arg-type]


@pytest.mark.usefixtures("inline")
def test_samples_differ_and_new_ones_are_others(
    project: Project, tagging: AutoSettings, tmp_path: Path
) -> None:
    more = {f"n{i:02}": f"#{40 + i:02x}2020" for i in range(20)}  # twenty nearly equal reds
    import_pictures(project, [painted(tmp_path / "more", more)])
    scan(project)
    names = sorted(scan(project).readable, key=lambda p: p.name)
    chosen = samples.choose(project, [p.name for p in names])
    assert len(set(chosen)) == 5
    assert sum(n.startswith("n") for n in chosen) <= 2, "five that differ, not five reds"
    assert not set(samples.choose(project, [p.name for p in names], 5, avoid=chosen)) & set(chosen)
    assert samples.choose(project, ["a_red.png", "b_green.png"]) == ["a_red.png", "b_green.png"]


@pytest.mark.usefixtures("inline")
def test_pictures_that_fail_are_named_and_the_rest_is_written(
    project: Project, tagging: AutoSettings
) -> None:
    reviewed(project)
    (project.dataset_dir / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not really")
    (project.dataset_dir / "cut.png").write_bytes((project.dataset_dir / "a_red.png").read_bytes()[:120])
    result = done(start_batch(project))
    assert result["written"] == 2
    assert {e["picture"] for e in result["errors"]} == {"broken.png", "cut.png"}
    assert all(e["what"] and e["fix"] for e in result["errors"])


def test_one_at_a_time(project: Project, tagging: AutoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch)
    job = start_samples(project)
    try:
        with pytest.raises(BusyError, match="at work"):
            start_samples(project)
    finally:
        job.stop(now=True)
        job.wait(30)


@pytest.mark.skipif(os.name == "nt", reason="kills with a signal")
def test_killed_at_several_moments(
    project: Project, tagging: AutoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL of the worker at any moment: no caption is lost or halved, and the next batch asks only for the rest."""
    more = {f"n{i:02}": f"#{5 * i:02x}{250 - 5 * i:02x}40" for i in range(48)}
    import_pictures(project, [painted(tmp_path / "more", more, (48, 48))])
    scan(project)
    reviewed(project)
    CaptionStore(project).set("n00.png", "words of a person")
    slowly(monkeypatch)
    seen: set[str] = set()
    record = project.folder / "captions" / "proposals" / f"{auto.ready(project).fingerprint}.jsonl"
    kills = 0
    for share in (0.0, 0.15, 0.5):
        job = start_batch(project)
        end = time.monotonic() + 60
        pid = None
        while job.is_alive and time.monotonic() < end:
            pid = (files.read_json(job.folder / "process.json") or {}).get("worker")
            if pid is not None and (job.progress.fraction or 0.0) >= share:
                break
            time.sleep(0.005)
        with suppress(ProcessLookupError, TypeError):
            os.kill(int(pid), signal.SIGKILL)
        kills += job.wait(30) in ("failed", "interrupted")
        every = CaptionStore(project).all()
        written = {n: c.text for n, c in every.items() if c.text}
        assert seen <= set(written), "a caption was lost"
        assert all(t.startswith("mirastyle, ") and len(t) > 12 for t in written.values())
        seen = set(written)
    assert kills >= 2, "the worker was faster than the test"
    if len(seen) == 55:
        return  # a loaded computer: the last one came to its end
    assert len(record.read_text().splitlines()) > 5
    monkeypatch.undo()
    answered = {a["name"] for a in files.read_jsonl(record)[0]}
    result = done(start_batch(project))
    # On a loaded computer every answer may have been written before the kill: then none waits on record.
    assert result["from_record"] == len(answered - seen), "answers that were on record were asked for again"
    every = CaptionStore(project).all()
    assert all(c.text for c in every.values()) and len(every) == 55
    assert every["n00.png"].text == "mirastyle, words of a person"
    lines = record.read_text().splitlines()
    names = [line.split('"name": "')[1].split('"')[0] for line in lines]
    assert len(names) == len(set(names)) == 54, "each picture was asked about once"


def test_what_an_earlier_attempt_asked_does_not_shorten_the_forecast(
    project: Project, tagging: AutoSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred pictures eighty come from the record at once; ten were asked, a second each: ten seconds are left."""
    names = [f"{n}.png" for n in range(100)]
    batch = _Batch(Worker(tmp_path / "job"), project, auto.ready(project), names)
    batch._done = 80
    assert math.isnan(batch._left()["eta_seconds"]), "nothing was asked yet"
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    batch._ask(SimpleNamespace(caption=lambda *_: ()), [])
    assert math.isnan(batch._left()["eta_seconds"]), "nothing was answered yet"
    batch._done = 90
    monkeypatch.setattr(time, "monotonic", lambda: 1010.0)
    assert batch._left()["eta_seconds"] == pytest.approx(10)


def test_stopped_and_gone_on_with(
    project: Project, tagging: AutoSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    more = {f"n{i:02}": f"#{5 * i:02x}{250 - 5 * i:02x}40" for i in range(30)}
    import_pictures(project, [painted(tmp_path / "more", more, (48, 48))])
    reviewed(project)
    slowly(monkeypatch)
    job = start_batch(project)
    end = time.monotonic() + 60
    while job.progress.done < 5 and time.monotonic() < end:
        time.sleep(0.01)
    job.stop()
    assert job.wait(30) == "stopped"
    partly = job.result
    assert 0 < partly["written"] < 32 and partly["left"] > 0
    found = last_job(project)
    assert found is not None and found.id == job.id
    monkeypatch.undo()
    assert done(start_batch(project))["written"] == 32 - partly["written"]
