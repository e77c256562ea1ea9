"""Logs of real sd-scripts runs, good and bad: `recorded.zip` holds their output as it came, byte by byte."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import pytest

from studio.errors import InputError
from studio.training.sdscripts.causes import CAUSES, cause_of
from studio.training.sdscripts.explain import explain, explain_text
from studio.training.sdscripts.log import LogReader

RECORDED = zipfile.ZipFile(Path(__file__).with_name("recorded.zip"))
TWICE = Path(__file__).with_name("sdxl_resumed_twice.txt")

# recording -> (outcome, code of the first finding)
TOLD = {
    "bad_choice.stderr.raw": ("failed", "value-not-allowed"),
    "bad_netmod.stderr.raw": ("failed", "network-module-unknown"),
    "bad_optimizer.stderr.raw": ("failed", "optimizer-unknown"),
    "config_syntax.combined.raw": ("failed", "config-syntax"),
    "config_wrong_type.stderr.raw": ("failed", "wrong-type"),
    "ds_empty_dir.stderr.raw": ("failed", "no-pictures"),
    "ds_missing_dir.stderr.raw": ("failed", "no-pictures"),
    "train_data_dir_noname.stderr.raw": ("failed", "no-pictures"),
    "ds_missing_file.stderr.raw": ("failed", "dataset-config-missing"),
    "ds_no_datasets.stderr.raw": ("failed", "dataset-empty"),
    "ds_small_bucket.stderr.raw": ("failed", "bucket-range"),
    "ds_syntax.stderr.raw": ("failed", "config-syntax"),
    "ds_valsplit_int.stderr.raw": ("failed", "dataset-type"),
    "ds_wrong_type.stderr.raw": ("failed", "dataset-type"),
    "missing_config.combined.raw": ("failed", "config-missing"),
    "missing_model.stderr.raw": ("failed", "model-missing"),
    "model_is_lora.stderr.raw": ("failed", "model-wrong-kind"),
    "model_junk.stderr.raw": ("failed", "model-damaged"),
    "r4_resume_past.stderr.raw": ("failed", "state-past-the-end"),
    "resume_missing.stderr.raw": ("failed", "state-missing"),
    "unknown_flag.stderr.raw": ("failed", "flag-unknown"),
    "weights_missing.stderr.raw": ("failed", "weights-missing"),
    "xformers.stderr.raw": ("failed", "package-missing"),
    "nocap.stderr.raw": ("finished", "captions-missing"),
    "r12_noisesample.stderr.raw": ("finished", "error-told"),
    "r1.stderr.raw": ("finished", ""),
    "r2_resume.stderr.raw": ("finished", ""),
    "r13_epochsample.stderr.raw": ("finished", ""),
    "run1_full.combined.raw": ("finished", ""),
    "r6_simplelog.stdout.raw": ("finished", ""),
    "r6_simplelog.stderr.raw": ("unclear", "half-a-log"),
    "r1.stdout.raw": ("unclear", "half-a-log"),
    "bad_netmod.stdout.raw": ("not started", "no-step"),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_recorded_log_is_understood(name: str) -> None:
    told = explain_text(RECORDED.read(name))
    first = told.findings[0].code if told.findings else ""
    assert (told.outcome, first) == TOLD[name]
    assert all(f.what and f.why and f.fix for f in told.findings)
    json.dumps(told.as_dict())


def test_exit_code_0_after_training_on_nothing_is_a_failure() -> None:
    told = explain_text(RECORDED.read("ds_missing_dir.stderr.raw"))
    assert not told.succeeded
    assert "no picture was found" in told.findings[0].what


def test_the_figures_of_a_whole_run() -> None:
    told = explain_text(RECORDED.read("run1_full.combined.raw"))
    assert (told.step, told.total_steps, told.epoch, told.epochs) == (8, 8, 2, 2)
    assert (told.first_loss, told.last_loss, told.seconds_per_step) == (1.03, 1.08, 44.28)
    assert told.plan["pictures"] == 4
    assert told.device == "cpu"
    assert [Path(p).name for p in told.saved] == ["mylora-000001.safetensors", "mylora.safetensors"]
    assert told.sentence == "It finished: step 8 of 8, and saved mylora.safetensors."


def test_a_resumed_run_counts_from_the_start() -> None:
    """Its own bar starts at 0 again and stops at 4 of 12."""
    told = explain_text(RECORDED.read("r2_resume.stderr.raw"))
    assert (told.resumed_at, told.step, told.total_steps) == (8, 12, 12)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_pieces_may_end_anywhere(size: int) -> None:
    data = RECORDED.read("run1_full.combined.raw")
    whole, bits = LogReader(), LogReader()
    expected = [*whole.feed(data), *whole.end()]
    got = [e for i in range(0, len(data), size) for e in bits.feed(data[i : i + size])] + bits.end()
    assert got == expected


def test_as_it_arrived() -> None:
    """The same run with the chunks of both streams as they came: each step is told when its own mean is known."""
    readers = {"stdout": LogReader(), "stderr": LogReader()}
    events = []
    for line in RECORDED.read("run1_full.events.jsonl").decode().splitlines():
        _, stream, text = json.loads(line)
        events += readers[stream].feed(text)
    steps = [e for e in events if e["type"] == "step"]
    assert [e["step"] for e in steps] == list(range(1, 9))
    assert [e["loss"] for e in steps] == [1.03, 1.04, 1.07, 1.07, 1.09, 1.1, 1.08, 1.08]


def bar(step: int, total: int, loss: str, post: str = "") -> str:
    line = f"\rsteps:  50%|█████     | {step}/{total} [00:10<00:10,  2.00it/s, {post}avr_loss={loss}]"
    return line + line


def test_nan_is_a_failure_whatever_was_saved() -> None:
    log = "".join(bar(i, 20, "0.1" if i < 5 else "nan") for i in range(1, 21))
    told = explain_text(f"{log}\nsaving checkpoint: /nowhere/x.safetensors\nINFO model saved.\n")
    assert told.outcome == "failed"
    assert told.findings[0].code == "loss-nan"
    assert "step 5" in told.findings[0].what
    assert told.last_loss == 0.1


def _bar(step: int, post: str = "") -> str:
    return f"\rsteps:  {step:2}%|▏         | {step}/100 [00:0{step}<03:14,  2.00s/it{post}]"


OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB"


def test_nan_in_a_bar_that_was_drawn_once_is_told_beside_the_memory() -> None:
    log = f"{_bar(3, ', avr_loss=nan')}\nTraceback (most recent call last):\ntorch.OutOfMemoryError: {OUT_OF_MEMORY}\n"
    told = explain_text(log)
    assert {f.code for f in told.findings} == {"loss-nan", "out-of-memory"}
    assert told.sentence == "It failed at step 3 of 100."


@pytest.mark.parametrize("kind", ["RuntimeError", "torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError"])
@pytest.mark.parametrize("between", ["", "\n"])
def test_memory_is_told_without_a_traceback(kind: str, between: str) -> None:
    told = explain_text(f"{_bar(0)}{between}{kind}: {OUT_OF_MEMORY}\n")
    assert (told.outcome, [f.code for f in told.findings]) == ("failed", ["out-of-memory"])


def test_steps_whose_bar_was_drawn_once_count() -> None:
    told = explain_text("".join(_bar(n, f", avr_loss=0.{n}") for n in (1, 2, 3)))
    assert (told.outcome, told.step, told.first_loss, told.last_loss) == ("ended early", 3, 0.1, 0.3)


def test_the_bar_with_more_figures() -> None:
    told = explain_text(bar(3, 4, "0.2", post="Average key norm=0.000749, Keys Scaled=0, "))
    assert (told.step, told.last_loss, told.seconds_per_step) == (3, 0.2, 0.5)


def test_other_bars_are_no_steps() -> None:
    reader = LogReader()
    line = "epoch validation steps: 100%|██████████| 8/8 [00:00<00:00, 20.94it/s, val_epoch_avg_loss=1.14]"
    assert [e["type"] for e in reader.feed(f"{line}\n{line}\n")] == ["stage"]


def test_a_log_that_breaks_off() -> None:
    told = explain_text(
        bar(3, 40, "0.2") + "\nsaving checkpoint: /nowhere/x-000001.safetensors\n" + bar(4, 40, "0.2")
    )
    assert told.outcome == "ended early"
    assert "x-000001.safetensors" in told.findings[0].why


# Typed by hand, in the form that the libraries print them: the first three need a graphics card or a full disk, the last is of
# nobody. What sd-scripts itself prints is recorded (here and in test_bad_inputs.py).
@pytest.mark.parametrize(("line", "code"), [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out-of-memory"),
    ("OSError: [Errno 28] No space left on device: 'x.safetensors'", "disk-full"),
    ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "card-too-new"),
    ("ImportError: No bitsandbytes / not installed", "package-missing"),
    ("WidgetError: the frobnicator is loose", "unknown-failure"),
])  # fmt: skip
def test_the_real_exception_stands_above_the_launchers(line: str, code: str) -> None:
    log = f"""{bar(3, 40, "0.2")}
Traceback (most recent call last):
  File "train_network.py", line 1, in <module>
    trainer.train(args)
{line}
Traceback (most recent call last):
  File "accelerate/commands/launch.py", line 1, in simple_launcher
subprocess.CalledProcessError: Command '['python', 'train_network.py']' returned non-zero exit status 1.
"""
    told = explain_text(log)
    assert (told.outcome, told.findings[0].code) == ("failed", code)


def test_killed() -> None:
    told = explain_text(bar(3, 40, "0.2") + "\nKilled\n")
    assert (told.outcome, told.findings[0].code) == ("failed", "ended-from-outside")
    assert "memory" in told.findings[0].why


def test_a_checkpoint_that_was_cut_off(tmp_path: Path) -> None:
    """The line about saving is printed before the file is written."""
    damaged, whole = tmp_path / "a.safetensors", tmp_path / "a-000001.safetensors"
    head = json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    whole.write_bytes(struct.pack("<Q", len(head)) + head + bytes(16))
    damaged.write_bytes(struct.pack("<Q", len(head)) + head + bytes(3))
    log = tmp_path / "log.txt"
    log.write_text(
        f"saving checkpoint: {whole}\n{bar(4, 4, '0.2')}\nsaving checkpoint: {damaged}\nINFO model saved.\n"
    )
    told = explain(log)
    assert (told.outcome, told.findings[0].code) == ("failed", "checkpoint-damaged")
    assert told.findings[0].where == ("a.safetensors",)


@pytest.mark.parametrize("text", ["", "hello\n", "\x00\x01" * 500, "[2026] GET / 200\n" * 50, "é" * 100_000])
def test_something_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a log"):
        explain_text(text)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        explain(tmp_path)


def test_the_memory_for_a_long_log_does_not_grow() -> None:
    reader, told = LogReader(), []
    for i in range(1, 20_001):
        told = [e["step"] for e in reader.feed(bar(i, 20_000, "0.1"))]
    assert len(reader._rest) < 1000
    assert told == [20_000], "a step is told when it is drawn, not when the next one is"
    assert reader.end() == []


def test_each_cause_has_its_words() -> None:
    assert len({c.code for c in CAUSES}) == len(CAUSES)
    assert cause_of("nothing special") is None
    for cause in CAUSES:
        assert cause.what and cause.why and cause.fix


def test_the_last_of_several_trainings_in_a_log_counts() -> None:
    """As when it was resumed, tried again with half the batch, or a second run was added to the same file."""
    good, bad = RECORDED.read("run1_full.combined.raw"), RECORDED.read("ds_missing_dir.stderr.raw")
    torn = good[: good.rindex(b"model saved.") - 400] + b"\n"
    short = b"Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory.\n"
    for log in (torn + short + good, torn + short * 2 + torn + b"Killed\n" + good, bad + good):
        told = explain_text(log)
        assert (told.outcome, told.step, told.first_loss, told.findings) == ("finished", 8, 1.03, [])
    assert explain_text(good + torn + short).findings[0].code == "out-of-memory"
    again = explain_text(RECORDED.read("r1.stderr.raw") + RECORDED.read("r2_resume.stderr.raw"))
    assert (again.resumed_at, again.step, again.outcome) == (8, 12, "finished")


def test_the_log_of_a_job_is_read_from_its_head_on(tmp_path: Path) -> None:
    from studio.jobs.log import Log
    from studio.training.sdscripts.explain import explain_job

    log = Log(tmp_path, limit=6000)
    log.feed(b"Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory.\n")
    log.note("Memory ran out at the start: the batch went from 4 to 2, and the run started again.")
    log.feed(RECORDED.read("run1_full.combined.raw"))
    log.close()
    assert (tmp_path / "log.head.txt").is_file()
    told = explain_job(tmp_path)
    assert (told.outcome, told.step, told.device) == ("finished", 8, "cpu"), told.sentence
    with pytest.raises(InputError, match="not a log"):
        explain_job(tmp_path / "nothing")


def test_a_run_resumed_twice_counts_from_its_first_start() -> None:
    """A real run of SDXL, four epochs of four steps, stopped after the first and after the second. The state of the second
    start tells four steps, its own, where eight were done."""
    told = explain_text(TWICE.read_bytes())
    assert (told.outcome, told.step, told.total_steps, told.resumed_at) == ("finished", 16, 16, 8)
    assert [Path(p).name for p in told.saved][-1] == "mystyle.safetensors"
    assert len(told.saved) == 4


@pytest.mark.parametrize("way", ["utf-16", "crlf", "colours", "lines"])
def test_a_log_that_went_through_another_tool(way: str) -> None:
    """PowerShell's `>` writes UTF-16; editors and terminals change line ends and colours."""
    plain = TWICE.read_bytes()
    changed = {
        "utf-16": plain.decode().encode("utf-16"),
        "crlf": plain.replace(b"\n", b"\r\n"),
        "colours": plain.replace(b"INFO", b"\x1b[34mINFO\x1b[0m").replace(b"steps:", b"\x1b[A\x1b[2Ksteps:"),
        "lines": plain.replace(b"\r", b"\n"),
    }[way]
    assert explain_text(changed) == explain_text(plain)


def test_a_log_that_ends_while_the_model_is_loaded_is_one_all_the_same() -> None:
    """A computer that was switched off, or a process that was ended, leaves no more than this."""
    plain = TWICE.read_bytes()
    told = explain_text(plain[: plain.index(b"prepare images.")])
    assert (told.outcome, [f.code for f in told.findings]) == ("not started", ["no-step"])
