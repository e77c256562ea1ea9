"""How a trigger word is read: real tokenizers, words that are taken apart well and badly."""

from __future__ import annotations

import pytest

from studio.captions.trigger import clip_pieces, pieces, reading_problems, unlike
from studio.models import get_model
from studio.replicate.checks import check_trigger
from studio.workspace import Workspace


@pytest.mark.parametrize(
    ("word", "read", "code"),
    [
        ("bluprnt", ("blu", "pr", "nt"), ""),
        ("mirastyle", ("mira", "style"), ""),  # "style" shows nothing by itself
        ("ohwx", ("ohwx",), "trigger-known"),
        ("catgirlz", ("cat", "girl", "z"), "trigger-heard"),
        ("darkxq", ("dark", "xq"), "trigger-heard"),
        ("q1w2e3r4t5", ("q", "1", "w", "2", "e", "3", "r", "4", "t", "5"), "trigger-pieces"),
    ],
)
def test_the_pieces_of_a_trigger_word(word: str, read: tuple[str, ...], code: str) -> None:
    assert clip_pieces(word) == read
    assert [f.code for f in reading_problems(word, read, "SDXL")] == [code] * bool(code)
    told = check_trigger(word)
    assert [(f.code, f.severity, f.where) for f in told] == [(code, "warn", ("trigger_word",))] * bool(code)


def test_what_is_proposed_instead_is_better() -> None:
    for word in ("catgirlz", "darkxq", "sks"):
        better = unlike(word)
        assert better != word
        assert not reading_problems(better, clip_pieces(better), "SDXL")


def test_a_model_that_reads_with_two_is_asked_through_clip(workspace: Workspace) -> None:
    assert pieces("bluprnt", get_model(workspace, "sd35-large"), workspace) == ("blu", "pr", "nt")
    assert pieces("bluprnt", get_model(workspace, "pocket"), workspace)
    assert reading_problems("bluprnt", (), "SDXL") == []
