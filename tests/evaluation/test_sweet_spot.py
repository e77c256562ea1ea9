"""The verdict, on measurements whose right answer is plain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.evaluation.curve import nearest_drawn
from studio.evaluation.sweet_spot import find_sweet_spot, per_checkpoint

RECORDED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("curves.json").read_text(encoding="utf-8")
)["sets"]

WEIGHTS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)


def metrics(
    near: tuple[float | None, ...],
    keep: tuple[float | None, ...],
    *,
    fault: tuple[float, ...] = (0,) * 6,
    leak: float | None = None,
    checkpoint: str = "final",
    **reference: Any,
) -> dict[str, Any]:
    """A grid's measurements for the six default weights."""
    return {
        "kind": "style",
        "reference": {"training_pictures": 20, "separable": True, "prompts": 6, "seeds": 1, **reference},
        "weights": [
            {
                "checkpoint": checkpoint,
                "weight": w,
                "pixels": (near[i] or 0) * 0.3,
                "effect": near[i],
                "nearness": near[i],
                "kept": keep[i],
                "fault": fault[i],
                "damage": None if keep[i] is None else round(1 - keep[i], 3),  # type: ignore[operator]
                "leak": leak if w else None,
            }
            for i, w in enumerate(WEIGHTS)
        ],
    }


# In the shape of what LoRAs of the built-in model measure (the recorded ones are in curves.json).
RIGHT = metrics((0, 0.1, 0.3, 0.65, 0.7, 0.72), (1, 0.85, 0.66, 0.52, 0.42, 0.38))
LITTLE = metrics((0, 0.0, 0.0, 0.0, 0.0, 0.001), (1, 1, 0.99, 0.99, 0.99, 0.98))
MUCH = metrics((0, 0.49, 0.51, 0.51, 0.51, 0.51), (1, 0.45, 0.37, 0.35, 0.31, 0.29))
COLLAPSED = metrics((0, 0.3, 0.9, 1.1, 1.2, 1.2), (1, 0.3, 0.2, 0.1, 0.05, 0.05))


def recorded(name: str, *checkpoints: str) -> dict[str, Any]:
    """The measurements of a recorded set, of some of its checkpoints or of all."""
    told = RECORDED[name]
    keys = ("weight", "nearness", "kept", "fault", "leak", "effect")
    rows = [
        {"checkpoint": c, "pixels": 0.1, "damage": 1 - row[2], **dict(zip(keys, row, strict=True))}
        for c in checkpoints or told["curves"]
        for row in told["curves"][c]
    ]
    return {"kind": told["kind"], "reference": told["reference"], "weights": rows}


@pytest.mark.parametrize(
    ("name", "checkpoint"), [(n, c) for n, told in RECORDED.items() for c in told["eye"]]
)
def test_the_verdict_says_what_the_eye_says(name: str, checkpoint: str) -> None:
    """Three styles, an object and a character, trained too little, right, long and far too fast; each sheet was looked at."""
    eye, verdict = RECORDED[name]["eye"][checkpoint], find_sweet_spot(recorded(name, checkpoint))
    assert verdict.state == eye["state"], verdict.headline
    if eye["low"] is not None:
        assert verdict.weight is not None and eye["low"] <= verdict.weight <= eye["high"]


@pytest.mark.parametrize("name", list(RECORDED))
def test_of_all_checkpoints_one_that_the_eye_likes_is_taken(name: str) -> None:
    verdict = find_sweet_spot(recorded(name))
    assert verdict.state == "found" and verdict.checkpoint in RECORDED[name]["best"]


def test_a_right_one_is_found_between_weak_and_damaged() -> None:
    verdict = find_sweet_spot(RIGHT)
    assert verdict.state == "found"
    assert verdict.weight is not None and 0.6 <= verdict.weight <= 0.75
    assert verdict.low is not None and verdict.high is not None
    assert 0.55 <= verdict.low <= verdict.weight <= verdict.high <= 0.9
    assert verdict.checkpoint == "final"
    assert verdict.confidence == "medium", "one seed"
    assert find_sweet_spot({**RIGHT, "reference": {**RIGHT["reference"], "seeds": 2}}).confidence == "high"
    assert "Use 0." in verdict.headline
    assert verdict.reasons[0].startswith("At 0.")


def test_words_for_each_weight() -> None:
    words = {p["weight"]: p["words"] for p in find_sweet_spot(RIGHT).per_weight}
    assert words[0.3] == "Style barely visible, subjects clear"
    assert words[0.5] == "Style begins to show, subjects clear"
    assert words[0.7] == "Style clearly present, subjects clear: sweet spot"
    assert words[0.9] == "Style clearly present, subjects soften"
    assert list(words) == [0.3, 0.5, 0.7, 0.9, 1.0]


def test_every_checkpoint_has_its_words_and_its_own_best_weight() -> None:
    early = metrics((0, 0.2, 0.5, 0.7, 0.72, 0.73), (1, 0.9, 0.8, 0.7, 0.6, 0.55), checkpoint="early")
    both = {**RIGHT, "weights": [*early["weights"], *RIGHT["weights"]]}
    verdict = find_sweet_spot(both)
    told = per_checkpoint(both, verdict)
    assert verdict.checkpoint == "early" and list(told) == ["early", "final"]
    assert told["early"] == verdict.per_weight
    assert [r["words"] for r in told["final"]] == [r["words"] for r in find_sweet_spot(RIGHT).per_weight]
    assert [r["weight"] for r in told["final"] if r["sweet"]] == [0.7]
    # What was rated decides; the others then have words, but no best that the ratings might contradict.
    rated = find_sweet_spot(both, {("early", 0.5): [5], ("early", 0.3): [2]})
    told = per_checkpoint(both, rated)
    assert [r["weight"] for r in told["early"] if r["sweet"]] == [0.5]
    assert told["final"][2]["words"] == "Style clearly present, subjects clear"
    assert not any(r["sweet"] for r in told["final"])
    # Without training pictures there is no best, and nothing breaks.
    blind = {**both, "reference": {"training_pictures": 0}}
    blind["weights"] = [{**r, "nearness": None} for r in both["weights"]]
    told = per_checkpoint(blind, find_sweet_spot(blind))
    assert len(told) == 2 and not any(r["sweet"] for rows in told.values() for r in rows)


def test_of_two_columns_as_near_the_weaker_is_taken() -> None:
    assert nearest_drawn((0.5, 0.7, 0.9), 0.8) == 0.7
    assert nearest_drawn((0.5, 0.7, 0.9), 0.81) == 0.9


def test_the_three_are_told_apart() -> None:
    assert [find_sweet_spot(m).state for m in (LITTLE, RIGHT, MUCH, COLLAPSED)] == [
        "undertrained",
        "found",
        "overdone",
        "overdone",
    ]
    assert "longer" in " ".join(find_sweet_spot(LITTLE).reasons)
    assert "earlier checkpoint" in " ".join(find_sweet_spot(MUCH).reasons)
    assert find_sweet_spot(LITTLE).low is None


def test_a_strong_one_lies_low_and_says_so() -> None:
    """Trained six times too fast, the object is there at 0.3, and above 0.4 other things fall apart."""
    verdict = find_sweet_spot(recorded("teapot", "hot4"))
    assert verdict.high is not None and verdict.high <= 0.5
    assert any("the LoRA is strong" in r for r in verdict.reasons)
    assert not any("the LoRA is strong" in r for r in find_sweet_spot(RIGHT).reasons)


def test_one_that_never_breaks_is_used_high() -> None:
    verdict = find_sweet_spot(metrics((0, 0.2, 0.4, 0.6, 0.75, 0.8), (1, 1, 0.98, 0.96, 0.95, 0.94)))
    assert verdict.weight is not None and verdict.weight >= 0.85
    assert verdict.high == 1.0
    assert any("nothing breaks" in r for r in verdict.reasons)


@pytest.mark.parametrize("fault", [0.0, 0.3, 0.4])
def test_the_verdict_does_not_contradict_its_columns(fault: float) -> None:
    """Where a column says that subjects soften or pictures have faults, the reasons do not say that nothing breaks."""
    near, said = (0, 0.3, 0.5, 0.6, 0.7, 0.8), set()
    for percent in range(20, 100, 2):
        keep = (1, 0.95, 0.9, 0.8, max(0.6, percent / 100), percent / 100)
        verdict = find_sweet_spot(metrics(near, keep, fault=(0, 0, 0, 0, 0, fault)))
        columns = " ".join(p["words"] for p in verdict.per_weight)
        bad = {w for w in ("soften", "suffer", "lost", "picture faults") if w in columns}
        why = " ".join(verdict.reasons)
        if bad:
            assert "nothing breaks" not in why and any(w in why for w in bad), (columns, why)
        elif "nothing breaks" not in why:
            assert not any(w in why for w in ("soften", "suffer", "lost", "picture faults")), (columns, why)
        said.add(("nothing breaks" in why, *sorted(bad)))
    assert len(said) > 1, "or this test says nothing"


def test_a_softer_highest_weight_is_said() -> None:
    verdict = find_sweet_spot(metrics((0, 0.2, 0.4, 0.6, 0.75, 0.8), (1, 1, 0.9, 0.7, 0.52, 0.49)))
    assert verdict.high == 1.0
    assert any(
        "up to 1, the highest weight drawn, but near that the subjects soften" in r for r in verdict.reasons
    )


def test_picture_faults_move_the_weight_down() -> None:
    clean = metrics((0, 0.3, 0.6, 0.8, 0.9, 0.95), (1, 0.95, 0.9, 0.85, 0.8, 0.75))
    burnt = metrics(
        (0, 0.3, 0.6, 0.8, 0.9, 0.95), (1, 0.95, 0.9, 0.85, 0.8, 0.75), fault=(0, 0, 0, 0.6, 0.9, 1.0)
    )
    high, low = find_sweet_spot(clean).weight, find_sweet_spot(burnt).weight
    assert high is not None and low is not None and low < high - 0.1
    assert any("picture faults" in p["words"] for p in find_sweet_spot(burnt).per_weight)


def test_it_says_when_it_does_not_know() -> None:
    for bad in (
        metrics((None,) * 6, (1,) * 6, training_pictures=0),
        metrics((None,) * 6, (1,) * 6, separable=False),
        metrics((0, 0.2, 0.5, 0.7, 0.9, 1.0), (None,) * 6),
        {"kind": "style", "weights": []},
    ):
        verdict = find_sweet_spot(bad)
        assert (verdict.state, verdict.weight, verdict.confidence) == ("unknown", None, "low")
        assert verdict.headline


def test_leaking_is_said() -> None:
    leaky = metrics((0, 0.2, 0.55, 0.8, 0.95, 1.0), (1, 0.95, 0.85, 0.7, 0.4, 0.3), leak=0.9)
    assert any("without the trigger word (90%" in r for r in find_sweet_spot(leaky).reasons)
    assert not any("without the trigger" in r for r in find_sweet_spot(RIGHT).reasons)


def test_the_earlier_of_two_equal_checkpoints_is_taken() -> None:
    early = metrics((0, 0.2, 0.55, 0.8, 0.95, 1.0), (1, 0.95, 0.85, 0.7, 0.4, 0.3), checkpoint="epoch 5")
    both = {**RIGHT, "weights": [*early["weights"], *RIGHT["weights"]]}
    assert find_sweet_spot(both).checkpoint == "epoch 5"
    weak = metrics((0, 0.05, 0.1, 0.15, 0.2, 0.25), (1,) * 6, checkpoint="epoch 5")
    both = {**RIGHT, "weights": [*weak["weights"], *RIGHT["weights"]]}
    verdict = find_sweet_spot(both)
    assert verdict.checkpoint == "final"
    assert "with final" in verdict.headline
    assert "with" not in find_sweet_spot(RIGHT).headline


def test_ratings_win() -> None:
    verdict = find_sweet_spot(RIGHT, {("final", 0.9): [5, 5, 4, 5], ("final", 0.7): [3, 3, 2, 3]})
    assert verdict.weight == 0.9
    assert verdict.by == "your ratings"
    assert verdict.confidence == "high"
    assert [p["sweet"] for p in verdict.per_weight] == [False, False, False, True, False]


def test_a_verdict_from_ratings_says_how_many_and_what_they_overrule() -> None:
    two = {("final", 0.9): [5], ("final", 0.5): [3], ("final", 0.0): [4]}
    verdict = find_sweet_spot(RIGHT, two, 30)
    measured = find_sweet_spot(RIGHT)
    words = f"(2 of 30 pictures); the measurements alone say {measured.weight:g} (fairly sure)."
    assert verdict.follows.endswith(words) and verdict.reasons[0] == verdict.follows
    assert verdict.confidence == "low"
    assert "say undertrained" in find_sweet_spot(LITTLE, two).follows
    blind = metrics((None,) * 6, (None,) * 6, training_pictures=0)
    assert find_sweet_spot(blind, two).follows == "This follows your ratings so far (2 pictures)."
    assert measured.follows == ""


@pytest.mark.parametrize("ratings", [{}, {("final", 0.9): [5]}, {("final", 0.0): [5], ("final", 0.9): [4]}])
def test_too_few_ratings_leave_it_to_the_measurements(ratings: dict[tuple[str, float], list[int]]) -> None:
    assert find_sweet_spot(RIGHT, ratings).by == "measurements"


def test_ratings_help_where_nothing_can_be_measured() -> None:
    blind = metrics((None,) * 6, (None,) * 6, training_pictures=0)
    verdict = find_sweet_spot(blind, {("final", 0.5): [4], ("final", 0.7): [2]})
    assert (verdict.state, verdict.weight) == ("found", 0.5)


@pytest.mark.parametrize(("kind", "word"), [("character", "likeness"), ("object", "object")])
def test_words_follow_the_kind(kind: str, word: str) -> None:
    verdict = find_sweet_spot({**RIGHT, "kind": kind})
    assert word in verdict.headline
    assert word.capitalize() in verdict.per_weight[0]["words"]
