"""Imports run one way, and the app's server never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUDIO = ROOT / "studio"

# Lower numbers know nothing of higher ones. A folder counts for all its files unless a file is named itself.
LEVELS = [
    {"errors", "findings", "files", "workspace"},
    {"settings", "machine", "modelfiles", "models", "project", "secrets", "addresses", "answers", "remote"},
    {"presets", "vram", "estimate", "jobs", "basemodels", "guides"},
    {"dataset", "captions", "replicate"},
    {"training"},
    {"lora"},
    {"evaluation"},
    {"library"},
    {"environment", "records"},
    {"gates"},
    {"launch"},
    {
        "queue",
        "reattach",
        "choices",
        "compare",
        "diagnosis",
        "guidance",
        "demo",
        "interview",
        "shelf",
        "working",
    },
    {"cli", "__main__"},
]
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in names}
HEAVY = {
    "streamlit",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "replicate",
    "httpx",
    "requests",
    "onnxruntime",
}


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _imports(path: Path, *, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(n)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for n in ast.walk(branch)
    }
    nodes = tree.body if top_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return found


def _part(module: str) -> str:
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def _sources() -> list[Path]:
    return [p for p in STUDIO.rglob("*.py") if "_shipped" not in p.parts]


def test_every_room_has_a_level() -> None:
    rooms = {_part(_module(p)) for p in _sources()} - {"__init__", "cloud"}
    assert rooms <= set(LEVEL), f"give {rooms - set(LEVEL)} a place in LEVELS"


def test_imports_run_one_way() -> None:
    wrong = []
    for path in _sources():
        own = _part(_module(path))
        for name in _imports(path):
            other = _part(name)
            if name.startswith("studio.") and other in LEVEL and own in LEVEL and LEVEL[other] > LEVEL[own]:
                wrong.append(f"{_module(path)} imports {name}")
    assert not wrong, "\n".join(sorted(wrong))


def test_no_circles_between_modules() -> None:
    modules = {_module(p).removesuffix(".__init__"): p for p in _sources()}
    graph = {
        m: {i for i in _imports(p, top_only=True) if i in modules and i != m} for m, p in modules.items()
    }
    done: set[str] = set()

    def walk(node: str, trail: tuple[str, ...]) -> None:
        assert node not in trail, "circle: " + " -> ".join([*trail[trail.index(node) :], node])
        if node in done:
            return
        for following in graph[node]:
            walk(following, (*trail, node))
        done.add(node)

    for module in graph:
        walk(module, ())


def test_heavy_packages_only_in_workers() -> None:
    wrong = []
    for path in _sources():
        if "workers" in path.parts:
            continue
        for name in _imports(path, top_only=True):
            if name.split(".")[0] in HEAVY:
                wrong.append(f"{_module(path)} imports {name}")
    assert not wrong, "\n".join(sorted(wrong))


def test_the_server_side_loads_no_torch() -> None:
    names = sorted(
        _module(p).removesuffix(".__init__")
        for p in _sources()
        if "workers" not in p.parts and p.name != "__main__.py"
    )
    code = (
        "import importlib, sys\n"
        f"for n in {names!r}: importlib.import_module(n)\n"
        "bad = [m for m in ('torch', 'streamlit', 'diffusers', 'transformers', 'scipy.signal') if m in sys.modules]\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_pages_hold_no_logic_of_the_lower_kind() -> None:
    """Pages draw and call: they open no file, start no process, know no torch."""
    wrong = []
    for path in (ROOT / "pages").rglob("*.py"):
        for name in _imports(path):
            if name.split(".")[0] in {"torch", "subprocess", "sqlite3", "shutil", "diffusers"}:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(sorted(wrong))
