"""Which PyTorch and which Python an installation of sd-scripts gets, from this computer's graphics card and driver."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from studio import files
from studio.errors import EnvironmentalError, InputError
from studio.machine import Gpu, Machine
from studio.workspace import shipped

_ASK_SECONDS = 20
# Cards of compute capability 10 and above, for drivers whose nvidia-smi does not tell the capability.
_BLACKWELL = re.compile(r"RTX\s*(PRO\s*\d+.*Blackwell|50\d\d)|\bG?B[123]00\b", re.IGNORECASE)


class Build(BaseModel):
    """A PyTorch build. index: where pip takes it from, empty for pip's own; room: bytes on disk for the whole installation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    torch: str
    torchvision: str
    index: str
    room: int
    capability: tuple[float, float] | None = None
    driver: int = 0

    @property
    def words(self) -> str:
        """Such as "PyTorch 2.6.0 for CUDA 12.4"."""
        cuda = re.fullmatch(r"cu(\d+)(\d)", self.id)
        what = (
            f"for CUDA {cuda[1]}.{cuda[2]}" if cuda else "without a graphics card" if self.id == "cpu" else ""
        )
        return f"PyTorch {self.torch} {what}".strip()

    @property
    def requirements(self) -> tuple[str, str]:
        """What pip is told to install."""
        return f"torch=={self.torch}", f"torchvision=={self.torchvision}"


@dataclass(frozen=True)
class Recipe:
    """data/sdscripts/install.yaml."""

    source: str
    commit: str
    pythons: tuple[str, ...]
    builds: tuple[Build, ...]
    usual: dict[str, float]

    def usual_seconds(self, build: Build) -> dict[str, float]:
        """Seconds that each step of an installation of `build` usually takes, by step: a measurement without a card, PyTorch's
        share grown with the room that the build takes."""
        measured = next(b for b in self.builds if b.id == "cpu")
        return {**self.usual, "torch": self.usual["torch"] * max(1.0, build.room / measured.room)}


@lru_cache(maxsize=1)
def recipe() -> Recipe:
    """How sd-scripts is set up, as shipped."""
    raw = files.read_yaml(shipped("data", "sdscripts", "install.yaml"))
    return Recipe(
        raw["source"],
        raw["commit"],
        tuple(raw["pythons"]),
        tuple(Build.model_validate(b) for b in raw["builds"]),
        {step: float(seconds) for step, seconds in raw["usual"].items()},
    )


def choose(machine: Machine, capabilities: tuple[float, ...] | None = None) -> Build:
    """The PyTorch build for this computer. capabilities: of its cards, asked from the driver when None.

    With several cards the newest decides. Raises EnvironmentalError when the driver is too old for every build.
    """
    known = recipe().builds
    if not machine.gpus:
        return next(b for b in known if b.id == ("mac" if machine.system.startswith("Darwin") else "cpu"))
    told = capabilities if capabilities is not None else asked_capabilities()
    best = max(told, default=0.0) or _by_name(machine.gpus)
    driver = min(_major(g.driver) for g in machine.gpus)
    fitting = [b for b in known if b.capability and b.capability[0] <= best <= b.capability[1]]
    for build in fitting:
        if driver >= build.driver:
            return build
    card = machine.gpus[0]
    if not fitting:
        raise EnvironmentalError(
            f"No PyTorch build fits {card.name}.",
            f"Its compute capability is {best:g}; sd-scripts' PyTorch runs from 5.0 on.",
            "Install without the card: lora-studio setup sd-scripts install --torch cpu",
        )
    raise EnvironmentalError(
        f"The driver of {card.name} is too old: {card.driver}.",
        f"PyTorch for this card needs NVIDIA driver {min(b.driver for b in fitting)} or later.",
        "Update the NVIDIA driver, start the computer again, then install.",
    )


def named(name: str) -> Build:
    """A build by its id (`cu124`, `cpu` ...). Raises InputError naming those that exist."""
    for build in recipe().builds:
        if build.id == name:
            return build
    raise InputError(
        f"There is no PyTorch build called '{name}'.",
        "Builds are named after their CUDA version.",
        f"Use one of: {', '.join(b.id for b in recipe().builds)}; or a version such as 2.6.0 with --torch-index.",
    )


def custom(torch: str, torchvision: str, index: str) -> Build:
    """A build of the user's choice. index: an https address, or empty for pip's own. Raises InputError."""
    for word in (torch, torchvision):
        if not re.fullmatch(r"\d+(\.\d+){1,3}([a-z]+\d+)?(\+[a-z0-9.]+)?", word):
            raise InputError(
                f"'{word}' is not a version.", "It is handed to pip.", "Write it like 2.6.0 or 2.8.0+cu128."
            )
    _checked_index(index)
    return Build(id="custom", torch=torch, torchvision=torchvision, index=index, room=recipe().builds[1].room)


def with_index(build: Build, index: str) -> Build:
    """The same build from another place. index: an https address, or empty for pip's own. Raises InputError."""
    _checked_index(index)
    return build.model_copy(update={"index": index})


def _checked_index(index: str) -> None:
    if index and not re.fullmatch(r"https://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~/+-]*)?", index):
        raise InputError(
            f"'{index}' is not an index that pip may be sent to.",
            "It has to begin with https:// and hold no user name, so that nobody on the way can change what is installed.",
            "Use one such as https://download.pytorch.org/whl/cu124, or `pypi` for pip's own.",
        )


def _by_name(gpus: tuple[Gpu, ...]) -> float:
    return 12.0 if any(_BLACKWELL.search(g.name) for g in gpus) else 8.0


def _major(driver: str) -> int:
    found = re.match(r"\d+", driver)
    return int(found[0]) if found else 0


@lru_cache(maxsize=1)
def asked_capabilities() -> tuple[float, ...]:
    """Compute capabilities of the cards, as the driver tells them; () when it does not."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        done = subprocess.run(
            [tool, "--query-gpu=compute_cap", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=_ASK_SECONDS, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(float(line) for line in done.stdout.split() if re.fullmatch(r"\d+\.\d+", line))


# --- Python


@dataclass(frozen=True)
class Python:
    """An interpreter that can make an environment. version: such as "3.11"."""

    path: Path
    version: str

    def as_dict(self) -> dict[str, Any]:
        return {k: str(v) for k, v in asdict(self).items()}


_ASK = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"


def find_python(wanted: Path | None = None) -> Python:
    """An interpreter for the environment: `wanted`, else the studio's own when its version fits, else one on the PATH.

    Raises EnvironmentalError with the line that installs one.
    """
    known = recipe().pythons
    if wanted is not None:
        version, why = _asked(wanted.expanduser())
        if version in known:
            return Python(wanted.expanduser().absolute(), version)
        raise InputError(
            f"{wanted} cannot be used for sd-scripts.",
            why or f"It is Python {version}; sd-scripts runs with {', '.join(sorted(known))}.",
            "Name the interpreter of such a Python.",
        )
    own = "{}.{}".format(*sys.version_info[:2])
    faults = []
    places = [Path(sys.executable)] if own in known else []
    places += [Path(p) for v in known if (p := shutil.which(f"python{v}"))]
    for place in places:
        version, why = _asked(place)
        if version in known:
            return Python(place, version)
        faults.append(why)
    if any("ensurepip" in f or "venv" in f for f in faults):
        raise EnvironmentalError(
            "This Python cannot make environments.",
            "Its module venv or ensurepip is missing, which Debian and Ubuntu ship apart.",
            f"Run: sudo apt install python{own}-venv, then install again.",
        )
    raise EnvironmentalError(
        "No fitting Python was found for sd-scripts.",
        f"It runs with Python {', '.join(sorted(known))}; the studio itself runs with {own}.",
        f"Install Python {known[0]} (python.org, or: sudo apt install python{known[0]} python{known[0]}-venv), then install again.",
    )


def _asked(place: Path) -> tuple[str, str]:
    """(version, "") of an interpreter that can make environments, else ("", why not)."""
    if not place.is_file():
        return "", "Nothing lies there."
    try:
        done = subprocess.run(
            [str(place), "-I", "-c", _ASK],
            capture_output=True, text=True, timeout=_ASK_SECONDS, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as e:
        return "", f"It could not be started: {getattr(e, 'strerror', None) or e}."
    if done.returncode:
        return "", (done.stderr.strip().splitlines() or ["It could not be started."])[-1][:200]
    return done.stdout.strip(), ""
