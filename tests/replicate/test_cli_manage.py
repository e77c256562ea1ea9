"""`sd35l-trainer` list, status, cancel, download: tolerant of what Replicate says, strict with what it sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.replicate_server import OWNER, ReplicateServer, lora_bytes, result_tar
from tests.replicate.lines import run, run_json

pytestmark = pytest.mark.usefixtures("at_work")


def test_list_in_pages_with_statuses_nobody_knows(server: ReplicateServer, capsys: Any) -> None:
    for n in range(120):
        server.put(
            status=("succeeded", "aborted", "dreaming")[n % 3], completed_at="2026-11-20T10:00:00.123456789Z"
        )
    code, told = run_json(capsys, "list", "--limit", "110")
    assert code == 0
    assert len({t["id"] for t in told["trainings"]}) == 110
    code, told = run_json(capsys, "list-jobs", "--status", "aborted", "--limit", "5")
    assert [t["status"] for t in told["trainings"]] == ["aborted"] * 5
    code, out, _ = run(capsys, "list", "--limit", "3")
    assert "aborted by Replicate" in out
    assert "dreaming" in out


@pytest.mark.parametrize(
    "line",
    [["--limit", "0"], ["--limit", "x"], ["--limit", "-1"], ["--limit", "99999"], ["--status", "done"]],
)
def test_list_wrong_input(server: ReplicateServer, capsys: Any, line: list[str]) -> None:
    assert run(capsys, "list", *line)[0] == 2


def test_an_empty_account(server: ReplicateServer, capsys: Any) -> None:
    assert "No trainings yet" in run(capsys, "list")[1]


def test_status_shows_step_cost_and_what_went_wrong(server: ReplicateServer, capsys: Any) -> None:
    """Others die here on `training.source`, which Replicate's newer answers lack."""
    training = server.put()
    run(capsys, "status", training["id"])
    code, out, _ = run(capsys, "status", training["id"], "--logs")
    assert code == 0
    assert "Step" in out
    assert "375 of 1500" in out
    assert "Cost so far   $0.09" in out
    assert "caching latents" in out
    server.life = ["failed"]
    code, out, err = run(capsys, "status", training["id"])
    assert code == 0
    assert "Lower the batch size" in err


def test_cancel(server: ReplicateServer, capsys: Any) -> None:
    training = server.put(status="processing")
    code, told = run_json(capsys, "cancel", training["id"])
    assert (code, told["cancelled"], training["status"]) == (0, True, "canceled")
    assert run_json(capsys, "cancel", training["id"])[1]["cancelled"] is False
    assert server.count("POST", "/cancel") == 1


def _finished(server: ReplicateServer, **more: Any) -> dict[str, Any]:
    return server.put(
        status="succeeded", completed_at="2026-11-20T10:00:00Z",
        output={"version": f"{OWNER}/old:{'a' * 64}", "weights": f"{server.delivery}/w/trained_model.tar"}, **more,
    )  # fmt: skip


def test_download_takes_only_the_lora(server: ReplicateServer, capsys: Any) -> None:
    """The output is a dict, the LoRA is nested, what else lies in the archive and in the folder is left alone."""
    Path("other.safetensors").write_bytes(b"mine")
    code, told = run_json(capsys, "download", _finished(server)["id"])
    assert code == 0
    assert Path(told["file"]).name == "mushroomfleet-old_OLD.safetensors"
    assert sorted(p.name for p in Path().iterdir()) == [
        "mushroomfleet-old_OLD.safetensors",
        "other.safetensors",
    ]
    again = run_json(capsys, "download", _finished(server)["id"])[1]
    assert again["file"] == told["file"]  # the same content is not written twice
    server.result = result_tar({"x/lora.safetensors": lora_bytes(("b.lora_A.weight",))})
    other = run_json(capsys, "download", _finished(server)["id"])[1]
    assert Path(other["file"]).name == "mushroomfleet-old_OLD-2.safetensors"


def test_download_goes_on_after_a_drop(server: ReplicateServer, capsys: Any) -> None:
    server.delivery_drop = 3
    assert run(capsys, "download", _finished(server)["id"], "--output-dir", "new/folder")[0] == 0
    assert sum(m == "DELIVERY" and "bytes=" in p for m, p in server.requests) == 3


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (result_tar({"a/readme.txt": b"x"}), "no .safetensors"),
        (result_tar({"../../escape.safetensors": b"x" * 40}), "safetensors"),
        (result_tar({"a/1.safetensors": lora_bytes(), "a/2.safetensors": lora_bytes()}), "none is called"),
        (result_tar({"a/lora.safetensors": lora_bytes(("unet.weight",))}), "belongs to a LoRA"),
        (result_tar({"a/lora.safetensors": lora_bytes()[:-5]}), "safetensors"),
        (b"PK\x03\x04" + bytes(50), "ZIP or pickle"),
        (result_tar()[:700], ""),
        (b"\x80\x02}q" + bytes(50), "ZIP or pickle"),
        (b"<html>sign in</html>", ""),
        (b"", "not there"),
    ],
)
def test_poor_results_are_refused(server: ReplicateServer, capsys: Any, result: bytes, said: str) -> None:
    server.result = result
    code, _out, err = run(capsys, "download", _finished(server)["id"])
    assert code in (2, 3)
    assert said in err
    assert not list(Path().rglob("*.safetensors"))
    assert not list(Path("..").rglob("escape*"))


@pytest.mark.parametrize("gz", [False, True])
def test_checkpoints_beside_the_final_lora(server: ReplicateServer, capsys: Any, gz: bool) -> None:
    content = {
        "o/j/lora_000000500.safetensors": lora_bytes(("x.lora_B",)),
        "o/j/lora.safetensors": lora_bytes(),
    }
    server.result = result_tar(content, gz=gz)
    told = run_json(capsys, "download", _finished(server)["id"])[1]
    assert Path(told["file"]).read_bytes() == lora_bytes()


@pytest.mark.parametrize(
    ("status", "code"), [("failed", 1), ("canceled", 1), ("aborted", 1), ("processing", 3), ("starting", 3)]
)
def test_download_of_what_gave_nothing(server: ReplicateServer, capsys: Any, status: str, code: int) -> None:
    server.life = [status]
    assert run(capsys, "download", server.put(status=status)["id"])[0] == code


@pytest.mark.parametrize("command", ["status", "cancel", "download"])
@pytest.mark.parametrize(
    ("training_id", "code"), [("x", 2), ("../../v1/account", 2), ("", 2), ("a" * 26, 3), ("ÄÖÜ" * 5, 2)]
)
def test_ids_that_are_none(
    server: ReplicateServer, capsys: Any, command: str, training_id: str, code: int
) -> None:
    assert run(capsys, command, training_id)[0] == code


def test_output_folder_that_is_a_file(server: ReplicateServer, capsys: Any) -> None:
    Path("file").write_text("x")
    assert run(capsys, "download", _finished(server)["id"], "--output-dir", "file")[0] == 2
