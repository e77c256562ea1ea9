"""The question to a description model, and its answer read however it is wrapped."""

from __future__ import annotations

import json

import pytest

from studio.captions.describe import Unreadable, WordSettings, prompt, read

BODY = (
    '{"content": ["a dog", "a beach"], "style": ["loose brushwork"], "caption": "a dog runs along a beach"}'
)


@pytest.mark.parametrize(
    "answer",
    [
        BODY,
        f"```json\n{BODY}\n```",
        f"Here is the caption you asked for:\n\n{BODY}\n\nLet me know!",
        f"<think>The user wants {{json}}. Hmm.</think>\n{BODY}",
        BODY.replace('"beach"]', '"beach",]').replace('a beach"}', 'a beach",}'),
        BODY.replace('"content"', '"Content Elements"').replace('"style"', '"style_elements"').replace('"caption"', '"Caption"'),
        '{"result": ' + BODY + "}",
        BODY.replace("a dog runs", "a dog\\nruns"),
        BODY.replace('["a dog", "a beach"]', '"a dog, a beach"'),
        BODY.replace("a dog runs", '\\"a dog runs').replace('beach"}', 'beach\\""}'),
        "**Content elements:** a dog, a beach\n**Style elements:** loose brushwork\n**Caption:** a dog runs along a beach",
        "Content: a dog; a beach\nStyle: loose brushwork\nCaption: \"a dog runs along a beach\"",
        "- content: a dog, a beach\n- style: loose brushwork\n- caption: a dog runs along a beach",
    ],
)  # fmt: skip
def test_answers_in_many_wrappings(answer: str) -> None:
    found = read(answer)
    assert found.content == ("a dog", "a beach")
    assert found.style == ("loose brushwork",)
    assert found.caption.replace('"', "") == "a dog runs along a beach"


def test_a_caption_that_is_missing_is_made_of_the_elements() -> None:
    assert read('{"content": ["1girl", "hat"], "style": ["ink"]}', "tags").caption == "1girl, hat"
    assert (
        read('{"content": ["1girl", "hat"], "style": ["ink"]}', "tags", "both").caption == "1girl, hat, ink"
    )
    assert read('{"caption": ["1girl", "red hat."]}', "tags").caption == "1girl, red hat"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("I am sorry, I cannot see the picture.", "no JSON"),
        ('{"content": ["a dog", "a be', "cut off"),
        ('{"caption": ""}', "no caption"),
        ('{"caption": 7}', "no caption"),
        ("[1, 2, 3]", "no JSON"),
        ('{"foo": "bar"}', "no JSON"),
        ("<think>only thoughts</think>", "empty"),
        ("{" * 5000, "cut off"),
    ],
)
def test_answers_that_hold_no_caption(answer: str, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read(answer)


def test_the_question_depends_on_what_is_taught_and_on_the_base_model() -> None:
    own = WordSettings()
    style, character, thing = (prompt(k, "sentences", own) for k in ("style", "character", "object"))  # type: ignore[arg-type]
    assert "must therefore not name the style" in style
    assert "clothes" in character and "name the style" not in character
    assert "its shape" in thing
    assert all("content:" in p and "style:" in p for p in (style, character, thing)), (
        "both are kept apart always"
    )
    assert "tags" in prompt("style", "tags", own) and "plain sentences" in style
    assert "how the picture is made" in prompt("style", "tags", WordSettings(say="both"))
    assert "call her Mira" in prompt("style", "tags", WordSettings(hint="call her Mira"))
    shown = prompt("style", "tags", own, ["a", "b", "c", "d", "e", "f"])
    assert "- e" in shown and "- f" not in shown


@pytest.mark.parametrize("piece", ["{", '{"a":', "<think>", '{"x": 1,} ', "```"])
def test_a_model_that_repeats_itself_for_pages_is_read_in_a_moment(
    piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute went by once while every bracket was tried, and the rest of the answer mended for each."""
    tried: list[int] = []
    decode = json.JSONDecoder.raw_decode

    def counting(self: json.JSONDecoder, text: str, at: int = 0) -> object:
        tried.append(at)
        return decode(self, text, at)

    monkeypatch.setattr(json.JSONDecoder, "raw_decode", counting)
    with pytest.raises(Unreadable):
        read(piece * (100_000 // len(piece)))
    assert len(tried) <= 400
