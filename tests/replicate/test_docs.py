"""The reference is made from the catalogue, the examples can be used, and the data says what the facts say."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.replicate.config import read_config, resolve
from studio.replicate.reference import renewed
from studio.replicate.trainers import catalogue
from studio.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_is_up_to_date() -> None:
    page = (ROOT / "docs" / "replicate.md").read_text(encoding="utf-8")
    assert page == renewed(page), "run: python -m studio.replicate.reference"
    for parameter in catalogue().parameters.values():
        assert parameter.help in page


@pytest.mark.parametrize("name", ["beginner", "experienced", "advanced"])
def test_examples_can_be_used(name: str) -> None:
    values, found = read_config(ROOT / "docs" / "examples" / f"sd35l-{name}.yaml")
    config, wrong = resolve({}, values, {})
    assert not found + wrong
    assert config.source["steps"] == "file"
    if name in catalogue().presets:
        assert catalogue().presets[name].values.items() <= config.values.items()


def test_defaults_fit_their_own_limits() -> None:
    for trainer in catalogue().trainers:
        for preset in ("", *catalogue().presets):
            _config, found = resolve({"trainer": trainer.id, "preset": preset or None}, {}, {})
            assert not found
        assert set(trainer.defaults) <= set(trainer.names)


def test_no_secret_has_a_place_in_a_request_that_is_written(workspace: Workspace) -> None:
    for trainer in catalogue().trainers:
        assert not {"hf_token", "wandb_api_key"} & set(trainer.names)
