"""Repeats of single pictures and the weight of regularisation pictures reach the steps and the loss."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from studio.estimate import plan_steps
from studio.training.base import PlannedPicture, TrainingPlan
from studio.training.workers.pictures import epoch_batches, into_buckets, read_items, shown_counts

Make = Callable[..., TrainingPlan]
Train = Callable[..., tuple[dict[str, Any] | None, list[dict[str, Any]]]]


@pytest.fixture
def mixed(pictures: list[PlannedPicture]) -> tuple[PlannedPicture, ...]:
    """Two that teach, one of them three times; two for regularisation; one of them would be too many."""
    return (
        pictures[0],
        pictures[1].model_copy(update={"repeats": 3}),
        *(p.model_copy(update={"regularisation": True, "caption": "thing"}) for p in pictures[2:4]),
        pictures[5].model_copy(update={"regularisation": True, "repeats": 9}),
    )


def test_each_picture_is_in_as_many_batches_as_it_is_shown(make_plan: Make, mixed: Any) -> None:
    plan = make_plan(pictures=mixed, batch_size=3, repeats=2)
    items = read_items(plan, lambda n: None)
    buckets = into_buckets(items)
    for epoch in (1, 2):
        batches = epoch_batches(buckets, items, plan.settings, epoch)
        shown = Counter(items[i].path.name for b in batches for i in b)
        # 1 x 2 and 3 x 2 make 8; of regularisation 1 + 1 + 9 come in the first round, and that is enough.
        assert shown == {"0.png": 2, "1.png": 6, "2.png": 1, "3.png": 1, "5.png": 9}
        assert len(batches) == plan_steps(shown_counts(buckets, items), plan.settings).steps_per_epoch


def test_regularisation_pictures_beyond_what_is_taught_are_not_opened(make_plan: Make, mixed: Any) -> None:
    gone = mixed[-1].model_copy(update={"path": mixed[-1].path.with_name("zz-gone.png"), "repeats": 1})
    plan = make_plan(pictures=(mixed[0], mixed[2], gone))
    assert [i.path.name for i in read_items(plan, lambda n: None)] == ["0.png", "2.png"]


def first_loss(events: list[dict[str, Any]]) -> float:
    return float(next(e["loss"] for e in events if e["type"] == "step"))


def test_the_weight_of_regularisation_pictures_scales_their_part_of_the_loss(
    make_plan: Make, train: Train, pictures: list[PlannedPicture]
) -> None:
    """One step over one of each: the loss is (taught + weight x regularisation) / 2 with the same noise each time."""
    both = (pictures[0], pictures[1].model_copy(update={"regularisation": True}))
    found = {}
    for weight in (0.0, 0.5, 1.0):
        plan = make_plan(
            folder=f"w{weight}", pictures=both, batch_size=2, max_steps=1, prior_loss_weight=weight
        )
        result, events = train(plan)
        assert result is not None
        found[weight] = first_loss(events)
    plain, _ = found[1.0], found[0.0]
    assert 0 < found[0.0] < plain
    assert found[0.5] == pytest.approx((found[0.0] + found[1.0]) / 2, rel=1e-5)
    unmarked = make_plan(
        folder="plain", pictures=tuple(pictures[:2]), batch_size=2, max_steps=1, prior_loss_weight=0
    )
    assert first_loss(train(unmarked)[1]) == pytest.approx(plain, rel=1e-6)


def test_the_lora_says_what_it_was_made_of(make_plan: Make, train: Train, mixed: Any) -> None:
    from studio.training.lora_keys import read_header

    plan = make_plan(pictures=mixed, epochs=1, batch_size=4, prior_loss_weight=0.3)
    result, events = train(plan)
    told = next(e for e in events if e["type"] == "plan")
    assert (
        result is not None and told["total_steps"] == result["steps"] == 5
    )  # 6 squares and 9 tall ones in fours
    about = read_header(plan.run_folder / result["path"]).metadata
    assert about["ss_prior_loss_weight"] == "0.3"
    dataset = json.loads(about["ss_datasets"])[0]
    assert (dataset["num_train_images"], dataset["num_reg_images"]) == (4, 11)
    assert [(s["num_repeats"], s["is_reg"]) for s in dataset["subsets"]] == [
        (1, False), (3, False), (1, True), (9, True),
    ]  # fmt: skip
    assert sum(b["count"] for b in dataset["bucket_info"]["buckets"].values()) == 4 + 1 + 1 + 9
