"""The commands of an installation of sd-scripts: built here, shown to whoever asks, run by the job. No secret is in them."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from studio import files
from studio.addresses import public_addresses, refuse_unsafe
from studio.errors import EnvironmentalError, InputError
from studio.training.sdscripts import builds, versions
from studio.training.sdscripts.builds import Build
from studio.workspace import Workspace


@dataclass(frozen=True)
class Order:
    """An installation as it was asked for.

    folder: where the version goes; origin: https address or local path; how: `git` clones it, `folder` copies it.
    commit: what is checked out, empty for a folder without history. python: makes the environment.
    wheels: a folder of packages that pip looks into as well; offline: it looks nowhere else.
    """

    folder: Path
    origin: str
    how: Literal["git", "folder"]
    commit: str
    python: Path
    build: Build
    wheels: Path | None = None
    offline: bool = False

    @property
    def mark(self) -> str:
        """Changes when another environment would come out."""
        return files.fingerprint([self.origin, self.commit, str(self.python), self.build.model_dump()])

    def as_dict(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder), "origin": self.origin, "how": self.how, "commit": self.commit,
            "python": str(self.python), "build": self.build.model_dump(mode="json"),
            "wheels": str(self.wheels) if self.wheels else None, "offline": self.offline,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Order:
        return cls(
            Path(raw["folder"]), raw["origin"], raw["how"], raw["commit"], Path(raw["python"]),
            Build.model_validate(raw["build"]), Path(raw["wheels"]) if raw.get("wheels") else None,
            bool(raw.get("offline")),
        )  # fmt: skip


def order(
    workspace: Workspace,
    build: Build,
    python: Path,
    *,
    source: str = "",
    commit: str = "",
    wheels: Path | None = None,
    offline: bool = False,
) -> Order:
    """What an installation would do. source: https address, local clone or folder; empty for kohya's own repository.

    commit: of the version; empty for the one that the studio knows. Raises InputError, all problems of the source told.
    """
    recipe = builds.recipe()
    commit = commit.strip().lower() or recipe.commit
    if not re.fullmatch(r"[0-9a-f]{7,40}", commit):
        raise InputError(
            f"'{commit}' is not a commit.",
            "A commit is written as 7 to 40 digits and letters a to f; names of branches and tags move.",
            f"Use one such as {recipe.commit}.",
        )
    origin, how = _origin(source.strip() or recipe.source)
    if wheels is not None and not wheels.expanduser().is_dir():
        raise InputError(
            f"There is no folder {wheels}.",
            "Packages are looked for in it.",
            "Give the folder that holds the .whl files.",
        )
    if how == "folder":
        commit, name = "", f"folder-{_content_mark(Path(origin))}"
    else:
        name = commit[:12]
    name += f"-{build.id}" if build.id != "custom" else f"-torch{build.torch.replace('+', '-')}"
    return Order(
        versions.root(workspace) / name, origin, how, commit, python, build,
        wheels.expanduser().absolute() if wheels else None, offline,
    )  # fmt: skip


def _origin(source: str) -> tuple[str, Literal["git", "folder"]]:
    if source.startswith("git@"):
        raise InputError(
            "An address of git over ssh cannot be used.",
            "It would ask for a key, and a job cannot answer.",
            "Use the https address of the repository, or a local clone.",
        )
    if "://" in source:
        try:
            host, port = refuse_unsafe(source, ())
            # Behind a proxy the name may not be known here; git will say so itself.
            with suppress(EnvironmentalError):
                public_addresses(host, port)
        except InputError as e:
            raise InputError(
                "sd-scripts cannot be fetched from that address.",
                e.what,  # never the address itself: a password may stand in it
                "Use the https address of a git repository that is open to everyone, a local clone, or a folder of sd-scripts.",
            ) from e
        return source, "git"
    place = Path(source).expanduser().absolute()
    if not place.is_dir():
        raise InputError(
            f"There is no folder {place}.",
            "The source is neither an https address nor a folder of this computer.",
            "Give the address of a git repository, a local clone, or a folder of sd-scripts.",
        )
    if (place / ".git").exists() or ((place / "objects").is_dir() and (place / "HEAD").is_file()):
        return str(place), "git"
    if not (place / "train_network.py").is_file():
        raise InputError(
            f"{place.name} is not a folder of sd-scripts.",
            "It holds no train_network.py and no git repository.",
            "Give the folder that holds train_network.py.",
        )
    return str(place), "folder"


def _content_mark(place: Path) -> str:
    """A mark of the programs in a folder without history, so that a changed folder is another version."""
    found = sorted(p for p in place.rglob("*.py") if not {"venv", ".venv"} & set(p.relative_to(place).parts))
    extra = [p for p in (place / "requirements.txt",) if p.is_file()]
    return files.fingerprint([[str(p.relative_to(place)), files.sha256_file(p)] for p in [*found, *extra]])[
        :12
    ]


def source_lines(order: Order, target: Path) -> list[list[str]]:
    """The git commands that bring the source to `target`. No hooks, no submodules, nothing asked."""
    safe = [
        "git",
        "-c",
        "advice.detachedHead=false",
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "protocol.file.allow=always",
    ]
    return [
        [*safe, "clone", "--no-checkout", "--progress", "--", order.origin, str(target)],
        [*safe, "-C", str(target), "checkout", "--detach", "--progress", order.commit, "--"],
    ]


def lacking_line(target: Path) -> list[str]:
    """The git command that names files which a checkout should have brought and did not: git goes on without an object that a
    damaged clone lacks, and ends as if all went well."""
    return ["git", "-c", "core.quotePath=false", "-C", str(target), "ls-files", "--deleted"]


def venv_line(order: Order) -> list[str]:
    """The command that makes the environment."""
    return [str(order.python), "-I", "-m", "venv", str(order.folder / "venv")]


def venv_python(order: Order) -> Path:
    """The interpreter of the environment, also before it is there."""
    import sys

    inside = Path("Scripts") / "python.exe" if sys.platform == "win32" else Path("bin") / "python"
    return order.folder / "venv" / inside


def pip_line(order: Order, *arguments: str) -> list[str]:
    """A pip command in the environment; it asks nothing, and takes packages only from where it is told."""
    line = [
        str(venv_python(order)),
        "-I",
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ]
    if order.wheels is not None:
        line += ["--find-links", str(order.wheels)]
    if order.offline:
        line.append("--no-index")
    return [*line, *arguments]


def torch_line(order: Order) -> list[str]:
    """The command that installs PyTorch and torchvision from the index of the build."""
    index = ["--index-url", order.build.index] if order.build.index and not order.offline else []
    return pip_line(order, *order.build.requirements, *index)


def shown(order: Order) -> list[str]:
    """The whole installation as lines that a person can type; what the job does, in its order."""
    source = order.folder / "source"
    lines = source_lines(order, source) if order.how == "git" else [["cp", "-r", order.origin, str(source)]]
    lines += [venv_line(order), torch_line(order)]
    told = [shlex.join(line) for line in lines]
    return [
        *told,
        f"cd {shlex.quote(str(source))} && {shlex.join(pip_line(order, '-r', 'requirements.txt'))}",
    ]
