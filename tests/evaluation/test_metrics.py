"""Measurements on made-up features whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.evaluation.metrics import (
    Axis,
    MeasuredCell,
    Pictures,
    copy_limit,
    diversity,
    fault_score,
    kept,
    measure,
    nearest,
)
from studio.workspace import shipped

PROMPTS = ("dog", "car", "house", "robot")
WEIGHTS = (0.0, 0.5, 1.0)


def synthetic(
    style_at: dict[float, float],
    content_left: dict[float, float],
    bare: float = 0.0,
    faults_at: dict[float, float] | None = None,
    sideways: float = 0.0,
) -> tuple[list[MeasuredCell], dict[str, int], Pictures, np.ndarray, Pictures]:
    """A grid in which, at each weight, style went the given share of the way to the training set and subjects kept the given
    share of what tells them apart. bare: style share of the prompt without the trigger word."""
    chance = np.random.default_rng(0)
    subject = chance.normal(size=(len(PROMPTS), 32))
    common = chance.normal(size=32) * 3
    way, other = np.zeros(16), np.zeros(16)
    way[:4], other[8:12] = 2.0, 2.0
    shapes = chance.normal(size=(len(PROMPTS), 24))
    cells, content, style, lines, faults = [], [], [], [], []
    for weight in WEIGHTS:
        for i, name in enumerate((*PROMPTS, "bare")):
            is_bare = name == "bare"
            share = style_at[weight] * (bare if is_bare else 1)
            jitter = np.random.default_rng(i).normal(size=16) * 0.1
            cells.append(
                MeasuredCell(
                    f"{name}-{weight}",
                    "final",
                    weight,
                    name,
                    "no_trigger" if is_bare else "standard",
                    1,
                    "dog",
                )
            )
            content.append(common + subject[i % len(PROMPTS)] * content_left[weight])
            lines.append(shapes[i % len(PROMPTS)] * content_left[weight] * 0.5 + 1)
            style.append(jitter + share * way + sideways * weight * other)
            faults.append([0, 0.1 + (faults_at or {}).get(weight, 0.0), 0.2, 0.3, 0.3])
    train = Pictures(
        chance.normal(size=(6, 32)) + common,
        way + chance.normal(size=(6, 16)) * 0.1,
        chance.normal(size=(6, 24)),
        np.tile([0, 0.1, 0.2, 0.3, 0.3], (6, 1)),
    )
    pictures = Pictures(np.array(content), np.array(style), np.array(lines), np.array(faults, dtype=float))
    rows = {c.hash: i for i, c in enumerate(cells)}
    return cells, rows, pictures, np.array([c.weight * 0.2 for c in cells]), train


def by_weight(metrics: dict) -> dict[float, dict]:
    return {w["weight"]: w for w in metrics["weights"]}


def test_nearness_is_the_share_of_the_way() -> None:
    data = synthetic({0: 0, 0.5: 0.6, 1.0: 1.0}, {0: 1, 0.5: 1, 1.0: 1})
    found = by_weight(measure("style", *data))
    assert found[0.0]["nearness"] == pytest.approx(0, abs=1e-6)
    assert found[0.5]["nearness"] == pytest.approx(0.6, abs=0.05)
    assert found[1.0]["nearness"] == pytest.approx(1.0, abs=0.08)
    assert found[0.5]["effect"] == pytest.approx(0.6, abs=0.05)
    assert found[1.0]["pixels"] == pytest.approx(0.2)


def test_moving_elsewhere_is_effect_but_not_nearness() -> None:
    data = synthetic({0: 0, 0.5: 0, 1.0: 0}, {0: 1, 0.5: 1, 1.0: 1}, sideways=1.0)
    found = by_weight(measure("style", *data))
    assert abs(found[1.0]["nearness"]) < 0.15
    assert found[1.0]["effect"] > 0.5


def test_kept_falls_when_subjects_are_lost() -> None:
    data = synthetic({0: 0, 0.5: 0.5, 1.0: 1}, {0: 1, 0.5: 1, 1.0: 0.2})
    found = by_weight(measure("style", *data))
    assert found[0.0]["kept"] == pytest.approx(1)
    assert found[0.5]["kept"] == pytest.approx(1)
    assert found[1.0]["kept"] < 0.5
    assert found[1.0]["damage"] == pytest.approx(1 - found[1.0]["kept"], abs=1e-3)


def test_kept_ignores_a_shift_that_all_pictures_share() -> None:
    base = np.random.default_rng(1).normal(size=(5, 64))
    assert kept(base, base).min() == pytest.approx(1)
    shifted = base + 0.5
    assert kept(shifted, base).min() > 0.9
    swapped = base[[1, 2, 3, 4, 0]]
    assert kept(swapped, base).max() < 0.3
    assert np.isnan(kept(base[:2], base[:2])).all()


def test_leak_is_measured_against_the_prompt_with_the_trigger() -> None:
    data = synthetic({0: 0, 0.5: 0.5, 1.0: 1}, {0: 1, 0.5: 1, 1.0: 1}, bare=0.8)
    found = by_weight(measure("style", *data))
    assert found[1.0]["leak"] == pytest.approx(0.8, abs=0.1)
    assert found[0.0]["leak"] is None
    tight = by_weight(
        measure("style", *synthetic({0: 0, 0.5: 0.5, 1.0: 1}, {0: 1, 0.5: 1, 1.0: 1}, bare=0.0))
    )
    assert tight[1.0]["leak"] == pytest.approx(0, abs=0.1)


def test_faults_count_only_beyond_base_and_training_pictures() -> None:
    reference = np.array([[0, 0.6, 0.2, 0.5, 0.3], [0.1, 0.1, 0.5, 0.4, 0.6]])
    fine = np.array([[0.05, 0.5, 0.4, 0.45, 0.5]])
    burnt = np.array([[0.1, 0.95, 0.5, 0.5, 0.6]])
    assert fault_score(fine, reference)[0] == 0
    assert fault_score(burnt, reference)[0] == 1
    data = synthetic({0: 0, 0.5: 0.5, 1.0: 1}, {0: 1, 0.5: 1, 1.0: 1}, faults_at={1.0: 0.8})
    found = by_weight(measure("style", *data))
    assert found[0.5]["fault"] == 0
    assert found[1.0]["fault"] > 0.9
    assert found[1.0]["damage"] > 0.9


def test_without_training_pictures_nearness_is_not_available() -> None:
    cells, rows, pictures, change, _train = synthetic({0: 0, 0.5: 0.5, 1.0: 1}, {0: 1, 0.5: 1, 1.0: 1})
    metrics = measure("style", cells, rows, pictures, change, None)
    assert metrics["reference"]["training_pictures"] == 0
    assert all(w["nearness"] is None for w in metrics["weights"])
    assert all(w["kept"] is not None for w in metrics["weights"])


def test_a_training_set_like_the_base_is_not_separable() -> None:
    chance = np.random.default_rng(3)
    alike = []
    for _ in range(200):
        a, b = chance.normal(size=(7, 200)), chance.normal(size=(20, 200))
        alike.append(Axis.between(a, b).separable)
    apart = Axis.between(chance.normal(size=(7, 200)), chance.normal(size=(20, 200)) + 2)
    assert apart.separable
    assert np.mean(alike) < 0.05


def test_the_nearest_training_picture_counts_mirror_images() -> None:
    train = np.eye(4)
    doubled = np.concatenate([train, np.roll(train, 1, axis=1)])
    at, similarity = nearest(np.array([[0, 1.0, 0, 0]]), doubled, 4)
    assert at[0] in (0, 1)
    assert similarity[0] == pytest.approx(1)
    data = synthetic({0: 0, 0.5: 0.5, 1.0: 1}, {0: 1, 0.5: 1, 1.0: 1})
    names = [f"{i}.png" for i in range(6)]
    metrics = measure("style", *data, train_names=names)
    assert all(c["nearest"] in names for c in metrics["cells"].values())


def test_checkpoints_share_their_base_cells() -> None:
    cells, rows, pictures, change, train = synthetic({0: 0, 0.5: 0.5, 1.0: 1}, {0: 1, 0.5: 1, 1.0: 1})
    early = [MeasuredCell(c.hash, "epoch 1", c.weight, c.prompt, c.family, c.seed, c.pair) for c in cells]
    metrics = measure("style", [*early, *cells], rows, pictures, change, train)
    assert [w["checkpoint"] for w in metrics["weights"]] == ["epoch 1"] * 3 + ["final"] * 3
    assert metrics["weights"][0]["nearness"] == metrics["weights"][3]["nearness"] == 0


def test_an_object_may_change_everything_but_the_scene_and_what_it_was_not_asked_for() -> None:
    """The thing itself replaces what the base drew; grounds stay, and prompts without the trigger word stay whole."""
    chance = np.random.default_rng(4)
    things, grounds = chance.normal(size=(2, 8, 48)), np.eye(8)[:, :6].repeat(12, axis=1)

    def found(*, ground_left: float, other_left: float) -> dict:
        cells, content, colours = [], [], []
        for weight in (0.0, 1.0):
            for i, prompt in enumerate(("white", "red", "blue", "green", "bare")):
                bare = prompt == "bare"
                family = "no_trigger" if bare else "standard"
                cells.append(MeasuredCell(f"{prompt}-{weight}", "final", weight, prompt, family, 1))
                left = other_left if bare else 0.0
                content.append(
                    things[0, i] if not weight else left * things[0, i] + (1 - left) * things[1, 0]
                )
                share = ground_left if weight else 1
                colours.append(share * grounds[i] + (1 - share) * grounds[0])
        rows = {c.hash: i for i, c in enumerate(cells)}
        outline = np.vstack([*(r for _ in range(2) for r in (chance.normal(size=(4, 24)), np.ones((1, 24))))])
        pictures = Pictures(np.array(content), np.array(colours), outline, np.full((10, 5), 0.3))
        train = Pictures(
            things[1, 0] + chance.normal(size=(6, 48)) * 0.1,
            grounds[:6],
            np.ones((6, 24)),
            np.full((6, 5), 0.3),
        )
        return by_weight(measure("object", cells, rows, pictures, np.zeros(10), train))[1.0]

    assert found(ground_left=1, other_left=1)["kept"] == pytest.approx(1, abs=0.01)
    assert found(ground_left=1, other_left=0.1)["kept"] < 0.3, "an umbrella must stay an umbrella"
    assert found(ground_left=0.1, other_left=1)["kept"] < 0.3, "all grounds alike"


def test_the_reference_is_what_the_base_model_can_draw(tmp_path: Path) -> None:
    """Fine lines that no LoRA can reach do not lengthen the way: the autoencoder softens them in the reference too."""
    from studio.evaluation.workers.measuring import as_drawable

    lines = Image.fromarray(np.tile(np.array([[0, 255]], np.uint8), (64, 32))).convert("RGB")
    plain = Image.new("RGB", (64, 64), (200, 40, 40))
    told: list[int] = []
    back = as_drawable([lines, plain] * 9, shipped("data", "pocket", "vae"), lambda: told.append(1))
    assert len(back) == 18 and len(told) == 2
    assert np.asarray(back[0], float).std() < np.asarray(lines, float).std() * 0.8
    assert np.abs(np.asarray(back[1], float) - np.asarray(plain, float)).mean() < 12
    assert as_drawable([], tmp_path) == []


def test_a_copy_is_told_from_a_likeness() -> None:
    rng = np.random.default_rng(5)
    common = rng.normal(size=64)
    train = common + rng.normal(size=(6, 64))
    mirrored = train + 0.05 * rng.normal(size=train.shape)
    everything = np.concatenate([train, mirrored])
    limit = copy_limit(train, everything)
    assert limit is not None and 0 < limit < 0.985
    like = common + rng.normal(size=(4, 64))
    copy = train[[2]] + 0.05 * rng.normal(size=(1, 64))
    flipped = mirrored[[4]] + 0.05 * rng.normal(size=(1, 64))
    _at, similar = nearest(np.concatenate([like, copy, flipped]), everything, 6)
    assert list(similar[4:] > limit) == [True, True]
    assert (similar[:4] > limit).sum() <= 1
    assert copy_limit(train[:2], train[:2]) is None


def test_duplicates_in_the_set_do_not_hide_copies() -> None:
    rng = np.random.default_rng(6)
    train = rng.normal(size=(5, 64))
    doubled = np.concatenate([train, train[[0]]])
    assert copy_limit(doubled, np.concatenate([doubled, doubled])) < 0.7


def test_variety_over_seeds() -> None:
    rng = np.random.default_rng(7)
    base = rng.normal(size=(3, 64))
    same = np.repeat(base[[0]], 3, axis=0) + 0.01 * rng.normal(size=(3, 64))
    content = np.concatenate([base, same])
    alike = diversity(content, [[3, 4, 5]], [[0, 1, 2]])
    assert alike is not None and alike < 0.05
    assert diversity(content, [[0, 1, 2]], [[0, 1, 2]]) == 1.0
    assert diversity(content, [[3]], [[0]]) is None, "one seed says nothing"
