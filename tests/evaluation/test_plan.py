"""Planning: prompts, checkpoints, hashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio.errors import InputError, NotFoundError
from studio.evaluation import clip_skip
from studio.evaluation.plan import choose_checkpoints, plan_grid
from studio.evaluation.prompts import default_prompts, own_prompts, prompt_set, without_trigger
from studio.evaluation.spec import GridSpec, plan_cells
from studio.project import Project
from studio.workspace import Workspace
from tests.evaluation.conftest import make_project

Plan = Callable[..., GridSpec]


@dataclass(frozen=True)
class Saved:
    path: Path
    epoch: int
    step: int
    final: bool


@pytest.fixture
def saved(tmp_path: Path, pocket_lora: Path) -> list[Saved]:
    found = []
    for epoch in range(1, 6):
        path = tmp_path / (f"x-{epoch:06d}.safetensors" if epoch < 5 else "x.safetensors")
        path.write_bytes(pocket_lora.read_bytes())
        found.append(Saved(path, epoch, epoch * 10, epoch == 5))
    return found


def test_default_prompts_of_the_built_in_model(project: Project) -> None:
    prompts = default_prompts(project, "pocket")
    by_family: dict[str, list[str]] = {}
    for p in prompts:
        by_family.setdefault(p.family, []).append(p.text)
    assert len(by_family["standard"]) == 5
    assert not {"bluprnt, dog", "bluprnt, car"} & set(by_family["standard"]), (
        "subjects that were not trained come first"
    )
    assert by_family["trigger"] == ["bluprnt"]
    assert by_family["caption"][0] in {"bluprnt, dog", "bluprnt, car", "bluprnt, tree", "bluprnt, ball"}
    bare = next(p for p in prompts if p.family == "no_trigger")
    assert "bluprnt" not in bare.text
    assert bare.text == without_trigger(next(p.text for p in prompts if p.id == bare.pair), "bluprnt")
    assert default_prompts(project, "pocket") == prompts


def test_prompts_by_family(project: Project, saved: list[Saved]) -> None:
    loras = [saved[0].path]
    leak = plan_grid(project, lora_files=loras, families=["no_trigger"])
    assert len(leak.prompts) == 3 and all("bluprnt" not in p.text for p in leak.prompts)
    assert all(p.pair == "" for p in leak.prompts), "the prompt with the trigger word is not on this grid"
    both = plan_grid(
        project, lora_files=loras, families=["standard", "no_trigger"], prompts=["a bluprnt whale"]
    )
    assert {p.family for p in both.prompts} == {"standard", "no_trigger", "own"}
    assert {p.pair for p in both.prompts if p.family == "no_trigger"} == {"dog", "car", "house"}
    assert len(plan_grid(project, lora_files=loras, families=["caption"]).prompts) == 2
    with pytest.raises(InputError, match="kind 'leak'"):
        plan_grid(project, lora_files=loras, families=["leak"])


@pytest.mark.parametrize("kind", ["style", "character", "object"])
@pytest.mark.parametrize("family", ["pocket", "sdxl"])
@pytest.mark.parametrize("style", ["tags", "sentences"])
def test_every_shipped_set_makes_a_grid(
    workspace: Workspace, pocket_model: Path, kind: str, family: str, style: str
) -> None:
    project = make_project(workspace, pocket_model, kind=kind)
    prompts = default_prompts(project, family, style)
    families = [p.family for p in prompts]
    assert families.count("no_trigger") == 1
    assert families.count("standard") + families.count("scene") >= 4
    assert all("{" not in p.text and p.text.strip() for p in prompts)
    assert all(("bluprnt" in p.text) == (p.family != "no_trigger") for p in prompts)
    assert len({p.text for p in prompts}) == len(prompts)
    assert prompt_set(kind, family).title


def test_own_prompts() -> None:
    found = own_prompts(["  a {trigger}  dog ", "", "a bluprnt dog", "a dog"], "bluprnt")
    assert [(p.text, p.family) for p in found] == [("a bluprnt dog", "own"), ("a dog", "no_trigger")]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("bluprnt, dog", "dog"),
        ("dog, bluprnt", "dog"),
        ("a bluprnt dog", "a dog"),
        ("dog", "dog"),
        ("bluprnt", ""),
    ],
)
def test_without_the_trigger_word(text: str, left: str) -> None:
    assert without_trigger(text, "bluprnt") == left


def test_which_checkpoints(saved: list[Saved]) -> None:
    def labels(choice: object) -> list[str]:
        return [lora.label for lora in choose_checkpoints(saved[::-1], choice)]  # type: ignore[arg-type]

    assert labels("final") == ["final"]
    assert labels("spread") == ["epoch 1", "epoch 3", "final"]
    assert len(labels("all")) == 5
    assert labels([2, "final"]) == ["epoch 2", "final"]
    assert labels(["x-000003.safetensors"]) == ["epoch 3"]
    with pytest.raises(NotFoundError, match="checkpoint '9'"):
        labels([9])
    with pytest.raises(NotFoundError, match="no checkpoint yet"):
        choose_checkpoints([], "final")


def test_a_grid_of_a_run(project: Project, saved: list[Saved]) -> None:
    class Run:
        id = "run-1"

        def checkpoints(self) -> list[Saved]:
            return saved

    spec = plan_grid(project, Run(), checkpoints="spread")
    assert spec.run == "run-1"
    assert spec.weights == (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
    cells = plan_cells(spec)
    assert len(cells) == 3 * 6 * len(spec.prompts)
    base = {c.hash for c in cells if c.weight == 0}
    assert len(base) == len(spec.prompts), "checkpoints share the base column"


def test_clip_skip_is_as_trained_and_refused_by_name(
    project: Project, pocket_lora: Path, tmp_path: Path
) -> None:
    def lora(name: str, skip: str) -> Path:
        save_file({"x": np.zeros(1)}, tmp_path / name, metadata={"ss_clip_skip": skip})
        return tmp_path / name

    two, also, one, odd = (lora(n, s) for n, s in (("a", "2"), ("b", "2"), ("c", "None"), ("d", "12")))
    assert [clip_skip.trained_with(p) for p in ([two], [two, also], [two, one], [odd], [], [tmp_path / "gone"])] == [
        2, 2, 1, 1, 1, 1,
    ]  # fmt: skip
    assert clip_skip.chosen("sd15", None, [two]) == 2 and clip_skip.chosen("sd15", 1, [two]) == 1
    assert clip_skip.chosen("sdxl", None, [two]) == 1, "SDXL reads that layer anyway"
    for family, words in (("pocket", "the built-in model"), ("sd35", "SD3.5"), ("flux", "FLUX")):
        assert clip_skip.chosen(family, 1, []) == 1
        with pytest.raises(InputError, match=f"no place with {words}"):
            clip_skip.chosen(family, 2, [])
    with pytest.raises(InputError, match="built-in model"):
        plan_grid(project, lora_files=[pocket_lora], clip_skip=2)


def test_what_changes_a_cell_changes_its_hash(plan: Plan) -> None:
    def hashes(**changes: object) -> list[str]:
        return [c.hash for c in plan_cells(plan(weights=(1.0,), prompts=["bluprnt, dog"], **changes))]

    base, full = hashes()
    for changes in (
        {"steps": 4},
        {"guidance": 5.0},
        {"seeds": (2,)},
        {"sampler": "euler"},
        {"width": 40},
    ):
        assert not {base, full} & set(hashes(**changes)), changes
    skipping = plan(weights=(1.0,), prompts=["bluprnt, dog"]).model_copy(update={"clip_skip": 2})
    assert not {base, full} & {c.hash for c in plan_cells(skipping)}
    assert hashes() == [base, full]
