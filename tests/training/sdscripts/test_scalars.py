"""The figures for TensorBoard: files as TensorBoard's own writer lays them out, read while they grow."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from studio.training.progress import Metrics
from studio.training.sdscripts.scalars import Scalar, ScalarFile, Scalars, scalars_of
from studio.training.watching import Watch, disk_nearly_full
from studio.training.workers.kohya_follow import rate_tags


def record(step: int, **values: float) -> bytes:
    """One record as TensorBoard writes it: wall time, step, and a summary with a value for each figure."""
    summary = b""
    for name, value in values.items():
        tag = name.replace("_", "/").encode()
        content = b"\x0a" + bytes([len(tag)]) + tag + b"\x15" + struct.pack("<f", value)
        summary += b"\x0a" + bytes([len(content)]) + content
    head = b"\x09" + struct.pack("<d", 1.8e9)
    data = head + b"\x10" + bytes([step]) + b"\x2a" + bytes([len(summary)]) + summary
    return struct.pack("<Q", len(data)) + b"\0" * 4 + data + b"\0" * 4


def test_a_file_is_read_on_where_the_last_look_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    one, two = record(1, loss_current=0.5, lr_unet=0.25), record(2, loss_current=0.75)
    path.write_bytes(one + two[:20])
    file = ScalarFile(path)
    assert file.read() == [Scalar("loss/current", 1, 0.5), Scalar("lr/unet", 1, 0.25)]
    assert file.read() == []
    with path.open("ab") as f:
        f.write(two[20:])
    assert file.read() == [Scalar("loss/current", 2, 0.75)]


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 64, b"text that is no record at all, and long enough", record(1, a=1.0)[:-6]]
)
def test_what_is_no_event_file_gives_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    assert ScalarFile(path).read() == []
    assert scalars_of(data) == []


def test_only_files_of_this_start_count(tmp_path: Path) -> None:
    def write(run: str, data: bytes) -> None:
        folder = tmp_path / run / "network_train"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "events.out.tfevents.1").write_bytes(data)

    write("20260101000000", record(1, loss_current=9.0))
    scalars = Scalars(tmp_path)
    assert scalars.read() == []
    write("20260101000100", record(1, loss_current=0.5))
    assert [s.value for s in scalars.read()] == [0.5]


def test_losses_of_single_steps_replace_the_means() -> None:
    seen = Metrics().add(
        [{"type": "step", "step": n, "epoch": 1, "loss": 1.0, "mean": True} for n in (1, 2, 3)]
    )
    assert seen.smoothed == [1.0, 1.0, 1.0]
    seen.add(
        [{"type": "scalars", "steps": [1, 2, 9], "loss": [4.0, 2.0, 7.0], "lr": {"unet": [0.1, None, 0.3]}}]
    )
    assert seen.losses == [4.0, 2.0, 1.0]
    assert seen.smoothed == pytest.approx([4.0, 3.0, 7 / 3])
    assert seen.rates == [{"unet": 0.1}, {}, {}]
    seen.add([{"type": "step", "step": 2, "epoch": 1, "loss": 6.0}])
    assert (seen.steps, seen.smoothed) == ([1, 2], [4.0, 5.0])


@pytest.mark.parametrize(("tags", "parts"), [
    ("unet group0", {"unet": "unet"}),
    ("textencoder group1 unet", {"te": "textencoder", "unet": "unet"}),
    ("textencoder textencoder_1_ group1 group2 textencoder_2_ unet",
     {"te 1": "textencoder 1 ", "te 2": "textencoder 2 ", "unet": "unet"}),
    ("d*lr/group0 d*lr/unet group0 unet", {"unet": "d*lr/unet"}),
    ("d*lr/group1 d*lr/textencoder d*lr/unet group1 textencoder unet",
     {"te": "d*lr/textencoder", "unet": "d*lr/unet"}),
    ("unet unet_plus", {"unet": "unet", "unet plus": "unet plus"}),
])  # fmt: skip
def test_each_rate_is_told_once_and_as_it_counts(tags: str, parts: dict[str, str]) -> None:
    """The script's tags for plain, several and numbered text encoders, for Prodigy and for LoRA+."""
    told = [f"lr/{t.replace('_', ' ')}" for t in tags.split()]
    assert rate_tags([*told, "loss/current"]) == {part: f"lr/{tag}" for part, tag in parts.items()}


def test_silence_and_a_full_disk_are_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    watch = Watch(tmp_path, lambda f: told.append(f.code), save_bytes=10**18)
    watch.heard(1.0)
    codes = [f.code for f in watch.look(watch._heard + 500)]
    assert codes == ["run-silent", "disk-nearly-full"]
    assert watch.look(watch._heard + 5000) == []


@pytest.mark.parametrize(
    ("free", "save", "told"),
    [
        (10**10, 10**8, False),
        (9 * 10**8, 1, True),
        (3 * 10**9, 2 * 10**9, True),
        (5 * 10**9, 2 * 10**9, False),
    ],
)
def test_how_much_room_a_run_wants(free: int, save: int, told: bool) -> None:
    assert (disk_nearly_full(free, save) is not None) == told
