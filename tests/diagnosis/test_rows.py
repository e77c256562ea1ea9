"""The rows: each change has its reason, nothing is changed that the text does not name, and limits say where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.diagnosis.rows import BASIS_WORDS, Change, Row, all_rows, changed_values, get_row, thresholds
from studio.diagnosis.signals import SOURCES
from studio.evaluation import curve
from studio.settings import TrainingSettings, knobs, parse_settings
from studio.workspace import shipped

NAMED = {
    "learning_rate": "learning rate", "epochs": "epochs", "alpha": "alpha", "rank": "rank", "noise_offset": "noise offset",
    "caption_dropout": "caption dropout", "train_text_encoder": "teach the text encoder",
    "text_encoder_lr": "text encoder learning rate", "precision": "precision", "prediction": "prediction type",
    "buckets": "aspect ratio buckets", "bucket_step": "bucket step", "warmup": "warm-up", "max_grad_norm": "gradient clipping",
    "flip": "mirror", "prior_loss_weight": "weight of regularisation pictures",
}  # fmt: skip
"""What a person calls each setting: the words that the fix must hold when the setting is changed."""


@pytest.mark.parametrize("row", all_rows(), ids=lambda r: r.id)
def test_what_is_changed_is_named_and_has_its_reason(row: Row) -> None:
    told = row.fix.lower()
    for change in row.changes:
        assert NAMED[change.set] in told, f"{row.id} changes {change.set} and does not say so"
        assert change.why.endswith(".") and len(change.why) > 20, change.set
    if row.changes:
        assert "next run" in told or row.id in ("no-effect", "weak", "flat-loss"), row.id
    assert row.earlier == ("earlier checkpoint" in told or "checkpoint from half way" in told)
    assert row.basis in BASIS_WORDS and row.sources


def test_the_seeds_own_diagnoses_are_there() -> None:
    """Blurry, ignores trigger, copies, wrong colours, only at 1.0: the cause and the change that the seed names."""
    assert any("too much training" in c for c in get_row("blurry").causes) and get_row("blurry").earlier
    ignores = get_row("ignores-trigger")
    assert any("too little training" in c for c in ignores.causes)
    assert any(c.set == "epochs" and (c.times or 0) > 1 for c in ignores.changes)
    copies = get_row("copies")
    assert (
        any(c.set == "epochs" and (c.times or 9) < 1 for c in copies.changes)
        and "add other pictures" in copies.fix
    )
    assert (
        "captions do not name colours" in get_row("colours").causes and get_row("colours").place == "captions"
    )
    one = {c.set for c in get_row("only-at-one").changes}
    assert {"epochs", "rank"} <= one


def test_a_change_has_one_way() -> None:
    with pytest.raises(ValueError, match="exactly one way"):
        Change(set="epochs", why="Because.", times=2, to=5)
    with pytest.raises(ValueError, match="exactly one way"):
        Change(set="epochs", why="Because.")


def changes(
    row: str, family: str = "pocket", noticed: tuple[str, ...] = (), **settings: object
) -> dict[str, tuple[object, object]]:
    base = parse_settings({**TrainingSettings().model_dump(), **settings})
    found = changed_values([get_row(row)], base, family, noticed)
    return {k: (c.before, c.after) for k, c in found.items()}


def test_alpha_goes_with_the_rank_by_name() -> None:
    assert changes("copies", rank=16, alpha=8.0)["alpha"] == (8.0, 4.0)
    assert "alpha" not in changes("copies", rank=1, alpha=1.0), "a rank of 1 cannot be halved"
    told = changes("only-at-one", rank=8, alpha=8.0)
    assert told["rank"] == (8, 12) and told["alpha"] == (8.0, 12.0), "at least the rank of the next run"


def test_the_text_encoder_is_only_taught_where_that_is_known_to_help() -> None:
    assert changes("leaks", "pocket", train_text_encoder=False)["train_text_encoder"] == (False, True)
    assert "train_text_encoder" not in changes("leaks", "sdxl", train_text_encoder=False)
    assert "train_text_encoder" not in changes("leaks", "flux", train_text_encoder=False)


def test_changes_that_hang_on_what_was_noticed() -> None:
    assert "epochs" in changes("blurry") and "epochs" not in changes("blurry", noticed=("weak",))
    assert "learning_rate" not in changes("flat-loss") and "learning_rate" in changes(
        "flat-loss", noticed=("weak",)
    )


def test_off_is_no_small_number() -> None:
    assert changes("loss-grows", max_grad_norm=0.0)["max_grad_norm"] == (0.0, 1.0), (
        "0 means no clipping at all"
    )
    assert "noise_offset" not in changes("colours", noise_offset=0.0)
    assert "learning_rate" not in changes("burnt", optimizer="prodigy", learning_rate=1.0)
    assert "text_encoder_lr" not in changes("prompts-lost", train_text_encoder=False)


def test_numbers_stay_in_their_range() -> None:
    top = knobs()["learning_rate"].maximum or 1.0
    told = changes("no-effect", learning_rate=top * 0.9)
    assert told["learning_rate"][1] == pytest.approx(top)


def test_signals_of_rows_exist_and_each_leads_somewhere() -> None:
    """A signal that nothing can raise, or that no row asks for, is a line that never does anything."""
    used = {s for r in all_rows() for s in r.signals} | {
        s for r in all_rows() for c in r.changes for s in (*c.when, *c.not_when)
    }
    own = {s for s in used if not s.startswith("data:")}
    assert own <= set(SOURCES), own - set(SOURCES)
    unused = set(SOURCES) - own
    assert not unused, f"noticed for nothing: {unused}"
    code = "".join(
        p.read_text(encoding="utf-8")
        for name in ("dataset", "captions")
        for p in shipped("studio", name).glob("*.py")
    )
    for signal in used - own:
        assert f'"{signal.removeprefix("data:")}"' in code, f"no audit finds {signal}"


def test_rows_that_cannot_be_noticed_are_the_known_ones() -> None:
    assert {r.id for r in all_rows() if not r.signals} == {
        "other-program", "other-base", "characters-blend", "two-loras", "blurry-samples",
    }  # fmt: skip


def test_limits_say_where_they_come_from() -> None:
    found = thresholds()
    assert all(t.where and t.what for t in found.values())
    assert {t.basis for t in found.values()} == set(BASIS_WORDS)
    # One source: the verdict's own limits are those of the diagnosis.
    assert found["weak"].value == curve.CLEARLY and found["lost"].value == curve.SOFT
    assert found["leak"].value == curve.LEAKY and found["faults"].value == curve.FAULTY
    assert found["caption-only"].value == pytest.approx(2 * curve.BARELY)


RECORDED = json.loads(
    (Path(__file__).parent.parent / "evaluation" / "curves.json").read_text(encoding="utf-8")
)["sets"]


def test_the_limit_of_weak_tells_what_the_eye_told() -> None:
    """Of the recorded LoRAs of the built-in model, those that the eye called too weak lie below, those it liked above."""
    weak, fine = [], []
    for told in RECORDED.values():
        for name, eye in told["eye"].items():
            reach = max(row[1] for row in told["curves"][name])
            (weak if eye["state"] == "undertrained" else fine).append(reach)
    assert len(weak) >= 4 and len(fine) >= 10
    assert max(weak) < thresholds()["weak"].value < min(fine)


def test_the_limit_of_leaking_tells_styles_from_things() -> None:
    """Styles taught without regularisation come without the trigger word, too; an object and a character hardly do."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for told in RECORDED.values():
        for rows in told["curves"].values():
            found[told["kind"] == "style"] += [row[4] for row in rows if row[4] is not None]
    assert max(found[False]) < thresholds()["leak"].value < min(found[True])


TRIED = {
    # one style on the built-in model, 20 pictures, two seeds: change of pixels at 1.0, worst kind of fault, most copies up to 1.0
    "one epoch": (0.0046, 0.0, 0.0),
    "right: 8 epochs": (0.5397, 0.0978, 0.0714),
    "30 epochs": (0.5269, 0.1159, 0.1429),
    "a twelfth of the rate": (0.1707, 0.0446, 0.0),
    "5 times the rate, 4 epochs": (0.5348, 0.1347, 0.0),
    "5 times the rate, 16 epochs": (0.5162, 0.122, 0.1429),
    "25 times the rate": (0.5058, 0.2561, 0.0),
}


def test_limits_tell_apart_what_was_tried() -> None:
    """Too little, right, too long and far too fast, measured as grids are; each limit lies between what it tells apart."""
    found = {k: t.value for k, t in thresholds().items()}
    assert found["no-effect"] < min(pixels for pixels, _f, _c in TRIED.values())
    faults = {name: fault for name, (_p, fault, _c) in TRIED.items()}
    wild = faults.pop("25 times the rate")
    assert max(faults.values()) < found["fault-kind"] < wild
    assert TRIED["right: 8 epochs"][2] < found["memorised"] < TRIED["30 epochs"][2]
