"""Installing sd-scripts: a real git repository and a real job, with a stand-in for the Python that would download gigabytes.

The real thing, once: with STUDIO_SD_SCRIPTS_CLONE naming a clone of sd-scripts it is installed with venv and pip (see
CONTRIBUTING).
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from studio import files
from studio.errors import BusyError, EnvironmentalError, InputError, NotFoundError, StudioError
from studio.jobs.job import JobSpec
from studio.jobs.launch import launch
from studio.machine import Gpu, Machine
from studio.training.sdscripts import builds, commands, install, installing, options, setup, versions
from studio.training.sdscripts.running import Failed
from studio.training.sdscripts.troubles import of_git, of_pip
from studio.workspace import Workspace

PYTHON = """#!/bin/sh
echo "$@" | tr '\\n' ' ' >> "{folder}/said"; echo >> "{folder}/said"
how=$(cat "{folder}/how")
case "$*" in
  *"-m venv"*)
    [ "$how" = no-venv ] && echo "Error: No module named ensurepip" && exit 1
    for last; do :; done
    mkdir -p "$last/bin" && cp "$0" "$last/bin/python" ;;
  *"-m pip"*)
    echo "Collecting torch==2.13.0"; echo "  Downloading torch-2.13.0-cp311.whl (191.8 MB)"
    case "$how:$*" in
      no-room:*) echo "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"; exit 1 ;;
      no-needs:*requirements*) echo "ERROR: No matching distribution found for oddpackage==9"; exit 1 ;;
      hangs:*requirements*) touch "{folder}/waiting"; exec sleep 60 ;;
    esac ;;
  *PROBE*)
    if [ "$how" = no-torch ]; then echo 'PROBE{{"failed": {{"torch": "ImportError: libcudart.so.12", "train_network": "ImportError: libcudart.so.12"}}}}'
    else echo 'PROBE{{"failed": {{}}, "torch": "2.13.0+cpu", "cuda": false}}'; fi ;;
  *version_info*) echo 3.11 ;;
esac
"""


def git(folder: Path, *words: str) -> str:
    line = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t.invalid", *words]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


class World:
    """A repository with two commits, and a Python that says what it was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = folder / "clone"
        self.clone.mkdir()
        git(self.clone, "init", "-q")
        for s in options.SCRIPTS.values():
            (self.clone / f"{s}.py").write_text("")
        (self.clone / "requirements.txt").write_text("einops\n")
        self.old = self.commit("one")
        (self.clone / "library.py").write_text("")
        self.new = self.commit("two")
        self.python = folder / "python3"
        self.python.write_text(PYTHON.format(folder=folder))
        self.python.chmod(0o755)
        self.how("")

    def commit(self, words: str) -> str:
        git(self.clone, "add", "-A")
        git(self.clone, "commit", "-q", "-m", words)
        return git(self.clone, "rev-parse", "HEAD")

    def how(self, word: str) -> None:
        (self.folder / "how").write_text(word)

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def order(self, workspace: Workspace, **more: Any) -> commands.Order:
        more = {"source": str(self.clone), "commit": self.new, "python": self.python, **more}
        return setup.prepare(workspace, torch="cpu", **more)


class Clock:
    """Time as a test says it; and a worker that keeps the forecast told last."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.left = math.nan

    def monotonic(self) -> float:
        return self.now

    def progress(self, *_told: Any, eta_seconds: float, **_more: Any) -> None:
        self.left = eta_seconds


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_installed_updated_and_rolled_back(world: World, workspace: Workspace) -> None:
    assert versions.status(workspace).state == "absent"
    job = setup.start(workspace, world.order(workspace, commit=world.old))
    assert job.wait(60) == "finished", job.log_tail()
    first = install.needed(workspace)
    assert first.commit == world.old and first.source.is_relative_to(workspace.root)
    now = versions.status(workspace)
    assert (now.state, now.facts["torch"], now.own) == ("ready", "2.13.0+cpu", False)
    assert now.update == builds.recipe().commit, "the studio knows another version"
    assert not (first.source / "library.py").exists()
    # The second one lies beside it; a run of the first can still go on.
    done = run_here(world.order(workspace), workspace)
    second = install.needed(workspace)
    assert second.commit == world.new and (second.source / "library.py").exists()
    assert first.python.is_file() and done["commit"] == world.new
    assert {v.name: (v.ready, v.in_use) for v in versions.versions(workspace)} == {
        f"{world.old[:12]}-cpu": (True, False), f"{world.new[:12]}-cpu": (True, True)
    }  # fmt: skip
    assert versions.roll_back(workspace) == first
    assert versions.roll_back(workspace) == second, "and back again"
    with pytest.raises(BusyError, match="in use"):
        versions.remove(workspace, world.new)
    place = versions.remove(workspace, world.old[:12])
    assert workspace.trash_dir in place.parents and not first.source.exists()
    with pytest.raises(EnvironmentalError, match="not there any more"):
        versions.roll_back(workspace)
    with pytest.raises(InputError, match="installed and in use"):
        setup.start(workspace, world.order(workspace))
    # Nothing lies outside of the version's folder, and no download stays.
    assert sorted(p.name for p in second.source.parent.iterdir()) == ["constraints.txt", "install.json", "source", "venv"]  # fmt: skip
    log = job.log_tail()
    assert "torch==2.13.0 torchvision==0.28.0 --index-url https://download.pytorch.org/whl/cpu" in log
    assert f"-c {first.source.parent / 'constraints.txt'}" in log


def test_a_stopped_one_goes_on_where_it_was(world: World, workspace: Workspace) -> None:
    world.how("hangs")
    job = setup.start(workspace, world.order(workspace))
    end = time.monotonic() + 60
    while not (world.folder / "waiting").exists():
        assert time.monotonic() < end and job.is_alive, job.log_tail()
        time.sleep(0.02)
    assert versions.status(workspace).state == "installing"
    with pytest.raises(BusyError):
        setup.start(workspace, world.order(workspace))
    with pytest.raises(BusyError):
        versions.roll_back(workspace)
    job.stop()
    assert job.wait(60) == "stopped", job.log_tail()
    now = versions.status(workspace)
    assert now.state == "interrupted" and now.command.endswith("install")
    assert install.current(workspace) is None, "a half one is never in use"
    world.how("")
    before = world.said.count("-m venv")
    run_here(world.order(workspace), workspace)
    assert world.said.count("-m venv") == before, "the environment was there already"
    assert versions.status(workspace).state == "ready"


@pytest.mark.parametrize(
    ("how", "what", "fix"),
    [
        ("no-venv", "environment of sd-scripts could not be made", "apt install"),
        ("no-room", "PyTorch could not be installed", "Free some room"),
        ("no-needs", "needs could not be installed", "requirements.txt"),
        ("no-torch", "does not start", "pip install -r requirements.txt"),
    ],
)
def test_what_fails_is_said_with_its_remedy(
    world: World, workspace: Workspace, how: str, what: str, fix: str
) -> None:
    """In this process, as the job would run it."""
    world.how(how)
    with pytest.raises(EnvironmentalError, match=what) as told:
        run_here(world.order(workspace), workspace)
    assert told.value.why and fix in told.value.fix
    now = versions.status(workspace)
    assert now.state == "broken" and what in now.reason and now.fix == told.value.fix
    assert now.command == "lora-studio setup sd-scripts install"
    world.how("")
    run_here(world.order(workspace), workspace)
    assert versions.status(workspace).state == "ready"


def run_here(order: commands.Order, workspace: Workspace) -> dict[str, Any]:
    from studio.jobs.lifeline import Worker
    from studio.training.sdscripts.installing import install_job

    payload = json.loads(json.dumps({"workspace": str(workspace.root), "order": order.as_dict()}))
    return install_job(Worker(workspace.root / "job"), payload)


def test_what_was_damaged_is_put_in_place_anew(world: World, workspace: Workspace) -> None:
    order = world.order(workspace)
    run_here(order, workspace)
    used = install.needed(workspace)
    install.checked(workspace, used, install.judged(used, {"crashed": "code -11"}), {})
    assert versions.status(workspace).state == "broken"
    run_here(order, workspace)
    assert world.said.count("-m venv") == 2 and versions.status(workspace).state == "ready"
    # Another PyTorch is another version beside it; so is going back to the first.
    other = setup.prepare(
        workspace, torch="cu124", source=str(world.clone), commit=world.new, python=world.python
    )
    run_here(other, workspace)
    assert install.needed(workspace).source == other.folder / "source"
    assert versions.roll_back(workspace).source == order.folder / "source"


def test_a_run_keeps_the_version_that_it_uses(world: World, workspace: Workspace) -> None:
    order = world.order(workspace)
    run_here(order, workspace)
    install.adopt(workspace, world.clone, world.python)
    run = workspace.root / "jobs" / "run"
    files.write_json(run / "plan.json", {"engine": {"source": str(order.folder / "source")}})
    job = launch(run, JobSpec("training", "Run 1", [sys.executable, "-c", "input()"]))
    try:
        for refused in (lambda: setup.start(workspace, order), lambda: versions.remove(workspace, world.new)):
            with pytest.raises(BusyError, match="Run 1 is at work"):
                refused()
    finally:
        job.stop(now=True)
        job.wait(30)


def test_a_broken_one_does_not_replace_the_one_in_use(world: World, workspace: Workspace) -> None:
    run_here(world.order(workspace, commit=world.old), workspace)
    world.how("no-torch")
    with pytest.raises(EnvironmentalError):
        run_here(world.order(workspace), workspace)
    assert install.needed(workspace).commit == world.old
    assert versions.status(workspace).state == "ready"
    with pytest.raises(EnvironmentalError, match="not finished"):
        versions.use_version(workspace, world.new)


def test_sources(world: World, workspace: Workspace) -> None:
    bare = world.folder / "bare.git"
    git(world.folder, "clone", "-q", "--bare", str(world.clone), str(bare))
    assert run_here(world.order(workspace, source=str(bare)), workspace)["commit"] == world.new
    plain = world.folder / "plain"
    plain.mkdir()
    for s in options.SCRIPTS.values():
        (plain / f"{s}.py").write_text("x = 1\n")
    (plain / "venv").mkdir()
    done = run_here(world.order(workspace, source=str(plain)), workspace)
    assert done["commit"] == "" and not (Path(done["source"]) / "venv").exists()
    (plain / "train_network.py").write_text("x = 2\n")
    again = world.order(workspace, source=str(plain))
    assert str(again.folder) not in done["source"], "a changed folder is another version"
    with pytest.raises(EnvironmentalError, match=r"Commit 0000000 is not in"):
        run_here(world.order(workspace, commit="0000000"), workspace)
    (world.clone / "flux_train_network.py").unlink()
    lacking = world.commit("three")
    with pytest.raises(EnvironmentalError, match="holds no sd-scripts that the studio knows") as told:
        run_here(world.order(workspace, commit=lacking), workspace)
    assert "flux_train_network.py" in told.value.why


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"source": "http://github.com/kohya-ss/sd-scripts"}, "not https"),
        ({"source": "https://me:secret@github.com/kohya-ss/sd-scripts"}, "user name"),
        ({"source": "https://127.0.0.1/sd-scripts"}, "not on the public internet"),
        ({"source": "ext::sh -c id"}, "no folder"),
        ({"source": "git@github.com:kohya-ss/sd-scripts"}, "over ssh"),
        ({"source": "/nowhere/at/all"}, "no folder"),
        ({"source": "/usr"}, "not a folder of sd-scripts"),
        ({"commit": "main"}, "not a commit"),
        ({"commit": "--upload-pack=x"}, "not a commit"),
        ({"torch": "cu999"}, "no PyTorch build"),
        ({"torch": "2.6.0"}, "version of torchvision is missing"),
        ({"torch": "2.6.0; rm", "torchvision": "0.21.0"}, "not a version"),
        ({"torch_index": "http://x/y"}, "not an index"),
        ({"torch_index": "https://me:pw@host/whl"}, "not an index"),
        ({"wheels": Path("/nowhere")}, "no folder"),
        ({"offline": True}, "a folder of packages is needed"),
        ({"python": Path("/nowhere/python")}, "cannot be used"),
    ],
)
def test_wrong_orders(world: World, workspace: Workspace, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(StudioError, match=words) as told:
        setup.prepare(workspace, **{"source": str(world.clone), "python": world.python, "torch": "cpu", **wrong})  # fmt: skip
    assert told.value.why and told.value.fix
    assert not versions.root(workspace).exists()


def test_a_full_disk_is_told_before(world: World, workspace: Workspace, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _: 1_000_000_000)
    with pytest.raises(EnvironmentalError, match="no room") as told:
        setup.start(workspace, world.order(workspace))
    assert "4.0 GB" in told.value.why


def machine(name: str, driver: str) -> Machine:
    gpus = (Gpu(name, 8 * 2**30, driver),) if name else ()
    return Machine("Linux 6", "x86_64", 4, 16 * 2**30, gpus, "3.11.2", {})


@pytest.mark.parametrize(
    ("card", "driver", "capability", "build"),
    [
        ("", "", (), "cpu"),
        ("NVIDIA GeForce RTX 3060", "535.104.05", (8.6,), "cu124"),
        ("NVIDIA GeForce RTX 3060", "515.65", (8.6,), "cu118"),
        ("NVIDIA GeForce GTX 1080", "535.1", (6.1,), "cu124"),
        ("NVIDIA GeForce RTX 5090", "570.133.07", (12.0,), "cu128"),
        ("NVIDIA GeForce RTX 5070 Ti", "572.16", (), "cu128"),
        ("NVIDIA RTX PRO 6000 Blackwell", "580.1", (), "cu128"),
        ("NVIDIA GeForce RTX 4090", "550.54", (), "cu124"),
        ("NVIDIA H100 80GB HBM3", "550.54", (9.0,), "cu124"),
    ],
)
def test_the_build_fits_card_and_driver(
    card: str, driver: str, capability: tuple[float, ...], build: str
) -> None:
    assert builds.choose(machine(card, driver), capability).id == build


def test_a_driver_that_is_too_old_is_said() -> None:
    for card, driver, capability in (("GTX 1080", "390.1", 6.1), ("RTX 5090", "535.1", 12.0)):
        with pytest.raises(EnvironmentalError, match="too old"):
            builds.choose(machine(card, driver), (capability,))
    with pytest.raises(EnvironmentalError, match="No PyTorch build fits"):
        builds.choose(machine("GTX 680", "470.1"), (3.0,))


def test_the_commands_for_a_card(world: World, workspace: Workspace) -> None:
    order = setup.prepare(workspace, torch="cu124", python=world.python)
    lines = commands.shown(order)
    assert f"clone --no-checkout --progress -- {builds.recipe().source} " in lines[0]
    assert f"checkout --detach --progress {builds.recipe().commit} --" in lines[1]
    assert lines[3].endswith("install --no-input --disable-pip-version-check --progress-bar off torch==2.6.0 "
                             "torchvision==0.21.0 --index-url https://download.pytorch.org/whl/cu124")  # fmt: skip
    assert builds.recipe().commit == options.commit(), (
        "what is installed is what the list of options was made from"
    )
    own = setup.prepare(workspace, torch="2.8.0", torchvision="0.23.0", torch_index="pypi", python=world.python,
                        wheels=world.folder, offline=True)  # fmt: skip
    line = commands.torch_line(own)
    assert "--index-url" not in line and line[-3:] == ["--no-index", "torch==2.8.0", "torchvision==0.23.0"]


def test_own_folder_and_back(world: World, workspace: Workspace) -> None:
    run_here(world.order(workspace), workspace)
    mine = install.adopt(workspace, world.clone, world.python)
    now = versions.status(workspace)
    assert (now.own, now.state, now.update) == (True, "ready", "")
    install.checked(workspace, mine, install.judged(mine, {"failed": {"torch": "ImportError: no"}}), {})
    now = versions.status(workspace)
    assert now.state == "broken" and "cannot load 'torch'" in now.reason and str(world.python) in now.fix
    assert versions.roll_back(workspace).source.is_relative_to(workspace.root)
    install.adopt(workspace, world.clone, world.python)
    world.python.unlink()
    now = versions.status(workspace)
    assert now.state == "broken" and "is gone" in now.reason and str(world.clone) in now.command
    install.forget(workspace)
    with pytest.raises(NotFoundError, match="no version to roll back"):
        versions.roll_back(workspace)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["fatal: unable to access 'x': Could not resolve host: github.com"], "could not be reached"),
        (["fatal: repository 'https://x/' not found"], "open to everyone"),
        (["fatal: reference is not a tree: 48d3"], "older than that commit"),
        (["fatal: something odd"], "something odd"),
    ],
)
def test_what_git_says(world: World, workspace: Workspace, said: list[str], words: str) -> None:
    told = of_git(Failed(128, said), world.order(workspace))
    assert words in f"{told.why} {told.fix}"


@pytest.mark.parametrize(("failed", "extra", "fix"), [
    # What Python said, recorded; and the command that mends it.
    ({"train_network": "ModuleNotFoundError: No module named 'einops'"}, (), "pip install -r requirements.txt"),
    ({"torch": "ModuleNotFoundError: No module named 'torch'"}, (), "pip install torch==2.13.0 torchvision==0.28.0 --index-url "),
    ({"train_network": "RuntimeError: operator torchvision::nms does not exist"}, (), "--force-reinstall torch torchvision"),
    ({"train_network": "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"}, (), "apt install libgl1"),
    ({"bitsandbytes": "ModuleNotFoundError: No module named 'bitsandbytes'"}, ("bitsandbytes",), "pip install bitsandbytes"),
    ({"lion_pytorch": "ModuleNotFoundError: No module named 'lion_pytorch'"}, ("lion_pytorch",), "pip install lion-pytorch"),
    ({"xformers": "ModuleNotFoundError: No module named 'xformers'"}, ("xformers",), "pip install xformers"),
    ({"torch": "ImportError: DLL load failed while importing _C: The specified module could not be found."}, (), "Redistributable"),
    ({"torch": "ImportError: /x/libtorch_cpu.so: undefined symbol: iJIT_NotifyEvent"}, (), "--force-reinstall torch"),
])  # fmt: skip
def test_each_missing_package_names_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: dict[str, str], extra: tuple[str, ...], fix: str
) -> None:
    monkeypatch.setattr(builds, "choose", lambda _m: builds.named("cpu"))
    mine = install.Install(tmp_path, tmp_path / "venv" / "bin" / "python")
    # The same cause is met again by everything that imports it, and told once.
    seen = {"failed": {**failed, "sdxl_train_network": next(iter(failed.values()))}}
    [found] = install.judged(mine, seen, extra)
    assert found.severity == "block" and fix in found.fix and found.why in failed.values()
    assert "pip" not in found.fix or str(mine.python) in found.fix, (
        "of its own environment, not of the studio's"
    )


def test_a_damaged_clone_is_refused(
    world: World, workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    """git goes on without an object that it cannot read, and ends with 0."""

    def lose(name: str) -> str:
        (world.clone / name).write_text(name)
        commit, blob = world.commit(name), git(world.clone, "hash-object", name)
        (world.clone / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
        return commit

    harmless = lose("picture.png")
    run_here(world.order(workspace, commit=harmless), workspace)
    assert "lacks 1 files that no training script needs" in capfd.readouterr().out
    with pytest.raises(EnvironmentalError, match="is damaged") as told:
        run_here(world.order(workspace, commit=lose("networks.py")), workspace)
    assert "networks.py" in told.value.why
    assert install.needed(workspace).commit == harmless, "the one in use stays"


@pytest.mark.parametrize("pace", [0.5, 1.0, 3.0])
def test_the_time_that_is_left_follows_the_computer(
    world: World, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, pace: float
) -> None:
    """Each step takes `pace` times as long as usual. The forecast begins as usual, and is right within two fifths once
    PyTorch is there; while a step hangs it grows."""
    clock = Clock()
    monkeypatch.setattr(installing, "time", clock)
    usual = builds.recipe().usual_seconds(builds.named("cpu"))
    work = installing._Installation(clock, workspace, world.order(workspace))  # type: ignore[arg-type]
    whole, seen = pace * sum(usual.values()), []
    for step in versions.STEPS:
        for tenth in range(10):
            work._at(step, tenth / 10, "")
            seen.append((clock.left, whole - (clock.now - 1000.0)))
            clock.now += pace * usual[step] / 10
    assert seen[0][0] == pytest.approx(sum(usual.values()))
    for told, true in seen[30:-5]:
        assert told == pytest.approx(true, rel=0.4, abs=15)
    work._tell()
    before = clock.left
    clock.now += 600
    work._tell()
    assert clock.left > 1.5 * before


def test_a_larger_build_is_said_to_take_longer() -> None:
    known = builds.recipe()
    cpu, cuda = (known.usual_seconds(builds.named(name)) for name in ("cpu", "cu124"))
    assert set(cpu) == set(versions.STEPS)
    assert cuda["torch"] > 2 * cpu["torch"] and cuda["check"] == cpu["check"]


def test_what_pip_says() -> None:
    for said, words in (
        ("ReadTimeoutError: HTTPSConnectionPool Max retries exceeded", "could not be reached"),
        ("ssl.SSLError: CERTIFICATE_VERIFY_FAILED", "certificate"),
        ("ERROR: Failed building wheel for sentencepiece", "sentencepiece has no ready build"),
        ("ERROR: Exception: odd", "odd"),
    ):
        told = of_pip(Failed(1, [said]), ["python", "-m", "pip"], "requirements")
        assert words in told.why and told.fix


@pytest.mark.slow
@pytest.mark.skipif("STUDIO_SD_SCRIPTS_CLONE" not in os.environ, reason="set STUDIO_SD_SCRIPTS_CLONE to a clone of sd-scripts")  # fmt: skip
def test_really(workspace: Workspace) -> None:
    told = {
        k.removeprefix("STUDIO_SETUP_").lower(): v
        for k, v in os.environ.items()
        if k.startswith("STUDIO_SETUP_")
    }
    wheels = told.pop("wheels", "")
    order = setup.prepare(workspace, source=os.environ["STUDIO_SD_SCRIPTS_CLONE"], python=Path(sys.executable),
                          wheels=Path(wheels) if wheels else None, **told)  # fmt: skip
    job = setup.start(workspace, order)
    assert job.wait(3600) == "finished", job.log_tail()
    used = install.needed(workspace)
    assert used.commit == builds.recipe().commit
    for script in options.SCRIPTS.values():
        assert install.probe(used, script)["failed"] == {}
    assert setup.start_check(workspace).wait(900) == "finished"
