"""The interview: one question a screen, nothing lost, nothing wrong let through."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from studio.models import get_model
from studio.project import KINDS, open_project
from studio.workspace import Workspace
from tests.pages.app import labels, open_page, sound, texts


def _to_name(at: AppTest, kind: str = "style") -> AppTest:
    sound(at.button(key=f"take_{kind}").click().run())
    return sound(at.button(key="take_pocket").click().run())


def _heading(at: AppTest) -> str:
    return str(at.subheader[0].value)


def test_from_the_first_question_to_the_dataset(workspace: Workspace) -> None:
    at = open_page("new_project")
    assert _heading(at) == "What do you want to teach?"
    for kind, told in KINDS.items():
        assert told["words"] in texts(at), kind
    sound(at.button(key="take_character").click().run())
    assert "Comes with the studio and runs on any computer" in texts(at)
    sound(at.button(key="take_pocket").click().run())
    sound(at.text_input(key="np_name").input("Mira the fox").run())
    assert at.text_input(key="np_trigger").value == "mrthfx"
    assert "A good trigger word" in texts(at)
    sound(at.text_area(key="np_about").input("A fox with a blue scarf").run())
    sound(at.button(key="np_next").click().run())
    low, high = KINDS["character"]["images"]
    assert _heading(at) == f"You need {low} to {high} pictures"
    assert "most common reason why a LoRA fails" in texts(at)
    sound(at.text_area(key="np_notes").input("always in the snow").run())
    sound(at.button(key="np_next").click().run())
    assert _heading(at) == "Is this right?"
    assert "Mira the fox" in texts(at) and "always in the snow" in texts(at)
    sound(at.button(key="np_create").click().run())
    assert at.title[0].value == "Dataset"
    intent = open_project(workspace, "mira-the-fox").intent
    assert (intent.kind, intent.trigger, intent.base_model) == ("character", "mrthfx", "pocket")
    assert (intent.description, intent.notes) == ("A fox with a blue scarf", "always in the snow")
    assert workspace.preferences()["interview"] == {}, "the next interview starts empty"


def test_the_trigger_follows_the_name_until_it_is_chosen(workspace: Workspace) -> None:
    at = _to_name(open_page("new_project"))
    sound(at.text_input(key="np_name").input("Blue plans").run())
    first = at.text_input(key="np_trigger").value
    sound(at.text_input(key="np_name").input("Grey plans of old").run())
    assert at.text_input(key="np_trigger").value != first
    sound(at.text_input(key="np_trigger").input("planxq").run())
    sound(at.text_input(key="np_name").input("Another name").run())
    assert at.text_input(key="np_trigger").value == "planxq"
    sound(at.text_input(key="np_trigger").input("").run())
    assert at.text_input(key="np_trigger").value == "", "whoever empties it wants to type another"
    assert "A trigger word is missing." in texts(at)
    sound(at.button(key="np_propose").click().run())
    assert at.text_input(key="np_trigger").value, "proposed again from the name"


def test_what_cannot_work_is_not_let_through(workspace: Workspace) -> None:
    at = _to_name(open_page("new_project"))
    assert at.button(key="np_next").disabled and "A name is missing" in texts(at)
    sound(at.text_input(key="np_name").input("House").run())
    assert at.text_input(key="np_trigger").value != "house", "an everyday word is not proposed"
    for word in ("house", "a, b", "(x:2)"):
        sound(at.text_input(key="np_trigger").input(word).run())
        assert at.button(key="np_next").disabled, word
        assert "Blocks" in texts(at), word
    sound(at.text_input(key="np_trigger").input("two words").run())
    assert not at.button(key="np_next").disabled, "a warning does not stop"
    assert "Worth a look" in texts(at)


def test_going_back_keeps_every_answer(workspace: Workspace) -> None:
    at = _to_name(open_page("new_project"))
    sound(at.text_input(key="np_name").input("Blue plans").run())
    sound(at.button(key="np_next").click().run())
    for _ in range(3):
        sound(at.button(key="np_back").click().run())
    assert _heading(at) == "What do you want to teach?"
    assert "Chosen, go on" in labels(at)
    sound(at.button(key="take_style").click().run())
    sound(at.button(key="take_pocket").click().run())
    assert at.text_input(key="np_name").value == "Blue plans"


def test_a_reload_goes_on_where_it_was(workspace: Workspace) -> None:
    at = _to_name(open_page("new_project"))
    sound(at.text_input(key="np_name").input("Blue plans").run())
    again = open_page("new_project")
    assert again.text_input(key="np_name").value == "Blue plans"
    sound(again.button(key="np_over").click().run())
    assert _heading(again) == "What do you want to teach?"
    assert _heading(open_page("new_project")) == "What do you want to teach?"


def test_models_that_are_not_here_are_told_but_not_offered(workspace: Workspace) -> None:
    at = open_page("new_project")
    sound(at.button(key="take_style").click().run())
    offered = [str(b.key).removeprefix("take_") for b in at.button if str(b.key).startswith("take_")]
    assert offered[0] == "pocket", "what runs here comes first"
    assert not {"sd15", "sdxl", "pony", "illustrious"} & set(offered)
    for hosted in offered[1:]:
        assert get_model(workspace, hosted).format == "cloud"
    assert texts(at).count("costs money") == len(offered) - 1
    assert texts(at).count("Your pictures are uploaded to Replicate.") == len(offered) - 1
    assert "more that are not here yet" in at.expander[0].label


def test_damaged_answers_start_at_the_first_question(workspace: Workspace) -> None:
    workspace.remember(interview={"at": "summary", "kind": "nonsense", "name": 3})
    assert _heading(open_page("new_project")) == "What do you want to teach?"
    workspace.remember(interview="nonsense")
    assert _heading(open_page("new_project")) == "What do you want to teach?"


def test_a_name_that_ends_in_a_backslash_leaves_the_words_around_it_alone(workspace: Workspace) -> None:
    at = _to_name(open_page("new_project"))
    sound(at.text_input(key="np_name").input("Plans\\").run())
    sound(at.button(key="np_next").click().run())
    sound(at.button(key="np_next").click().run())
    assert "Plans\\\\" in [m.value for m in at.markdown], "in the summary"
    sound(at.button(key="np_create").click().run())
    assert "**Plans\\\\** is ready for its pictures." in texts(at)
