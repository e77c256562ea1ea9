"""The intent interview: one question a screen, each answer kept at once, the way back always open."""

from typing import Any

import streamlit as st

from pages.parts.context import advanced, workspace
from pages.parts.findings import show_findings
from pages.parts.flash import act, say
from pages.parts.form import synced, taken
from pages.parts.nav import go, link
from pages.parts.next import what_next
from pages.parts.page import page
from pages.parts.words import plain
from studio.findings import blocking
from studio.interview import check_trigger, offers, suggest_trigger, trigger_words
from studio.models import get_model
from studio.project import KINDS, Intent, create_project
from studio.workspace import shipped

SCREENS = ("kind", "model", "name", "pictures", "summary")
QUESTIONS = 4
WIDTH = 860
EXAMPLES = {
    "character": ("Mira", "A cheerful woman with red hair in a bun and round glasses"),
    "style": ("Old blueprint", "White lines on blue, as on an old plan"),
    "object": ("Dotted mug", "A red mug with a white band and red dots"),
}
# The content-style problem, told for each kind: what goes wrong, what works.
BALANCE = {
    "character": (
        "Always the same picture",
        "Same pose, same room, same light: the model learns the room and the pose as part of the person.",
        "The same person, everything else differs",
        "Only the person stays the same, so that is what the trigger word comes to mean.",
        "Is anything the same in all your pictures, apart from the character? (optional)",
        "Such as: always the same jacket; mostly photographed indoors",
    ),
    "style": (
        "One subject",
        "If every picture is a house, the model cannot tell whether it should learn houses or the way they are drawn.",
        "One style, many subjects",
        "Only the way of drawing stays the same, so that is what the trigger word comes to mean.",
        "What do your pictures show, besides the style? (optional)",
        "Such as: mostly animals; some buildings",
    ),
    "object": (
        "Always on the same table",
        "Same side, same place: the model learns the table as part of the object.",
        "The same object, different places and sides",
        "Only the object stays the same, so that is what the trigger word comes to mean.",
        "Is anything the same in all your pictures, apart from the object? (optional)",
        "Such as: always on my desk; never seen from behind",
    ),
}


def draft() -> dict[str, Any]:
    """The answers so far; they outlive a reload."""
    if "interview" not in st.session_state:
        kept = workspace().preferences().get("interview")
        st.session_state["interview"] = dict(kept) if isinstance(kept, dict) else {}
    return st.session_state["interview"]  # type: ignore[no-any-return]


def answer(**values: Any) -> None:
    """Keep answers."""
    draft().update(values)
    workspace().remember(interview=draft())


def turn(to: str, **values: Any) -> None:
    """Keep answers and show another screen."""
    answer(at=to, **values)


def start_over() -> None:
    """Forget all answers."""
    st.session_state["interview"] = {}
    for key in ("np_name", "np_trigger", "np_about", "np_notes"):
        st.session_state.pop(key, None)
    workspace().remember(interview={})


def buttons(back: str, label: str, to: str, *, blocked: str = "", **values: Any) -> None:
    """Back and on."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if back:
            st.button("Back", key="np_back", icon=":material/arrow_back:", on_click=turn, args=(back,))
        st.button(label, key="np_next", type="primary", icon=":material/arrow_forward:", icon_position="right",
                  disabled=bool(blocked), on_click=turn, args=(to,), kwargs=values)  # fmt: skip
        if blocked:
            st.markdown(f":orange[:material/lock: {blocked}]", width="content")


# --- the screens


def ask_kind(known: dict[str, Any]) -> None:
    """What do you want to teach?"""
    st.subheader("What do you want to teach?", anchor=False)
    with st.grid(3, min_column_width=220, gap="medium"):
        for kind, told in KINDS.items():
            chosen = known.get("kind") == kind
            with st.container(border=True, height="stretch", gap="small", key=f"kind_{kind}"):
                st.image(str(shipped("pages", "static", f"kind-{kind}.svg")), width="stretch", alt="")
                st.markdown(f"#### {told['title']}", anchors=False)
                st.markdown(told["words"])
                st.space("stretch")
                st.button("Chosen, go on" if chosen else told["title"], key=f"take_{kind}", width="stretch",
                          type="primary" if chosen else "secondary", on_click=turn, args=("model",), kwargs={"kind": kind},
                          icon=":material/check:" if chosen else None)  # fmt: skip
    st.caption("Not sure? Take *a style* if the pictures show many things that look alike in how they are made, "
               "*a character* for one person or creature, *an object* for one thing.")  # fmt: skip


def ask_model(known: dict[str, Any]) -> None:
    """Which base model?"""
    st.subheader("Which base model shall learn it?", anchor=False)
    st.markdown("The base model is the picture model that your LoRA is made for. It is never changed. What runs on this "
                "computer comes first.")  # fmt: skip
    found = offers(workspace(), known["kind"])
    now = known.get("base_model") or next((o.entry.id for o in found if o.ready), "")
    ready = [o for o in found if o.ready]
    later = [o for o in found if not o.ready]
    for n, offer in enumerate(ready):
        with st.container(border=True, gap="xsmall", key=f"model_{offer.entry.id}"):
            with st.container(horizontal=True, vertical_alignment="center"):
                cloud = offer.entry.format == "cloud"
                badge = (
                    " :orange-badge[costs money]"
                    if cloud
                    else " :green-badge[fits this computer]"
                    if n == 0
                    else ""
                )
                st.markdown(f"**{offer.entry.title}**{badge}", width="stretch")
                taken = now == offer.entry.id
                st.button("Take this one", key=f"take_{offer.entry.id}", type="primary" if taken else "secondary",
                          on_click=turn, args=("name",), kwargs={"base_model": offer.entry.id})  # fmt: skip
            if offer.entry.summary:
                st.markdown(offer.entry.summary)
            st.caption(f"{offer.why}  \nIt draws {offer.entry.resolution} × {offer.entry.resolution} pixels. "
                       f"Licence: {offer.entry.licence}.")  # fmt: skip
    if later:
        with st.expander(f"{len(later)} more that are not here yet", key="np_later"):
            for offer in later:
                st.markdown(
                    f"**{offer.entry.title}** :small[:gray[{offer.entry.resolution} px]]  \n{offer.why}"
                )
            link("setup", "See how to get one on the set-up page", icon=":material/arrow_forward:")
    st.space("small")
    st.button("Back", key="np_back", icon=":material/arrow_back:", on_click=turn, args=("kind",))


def named() -> None:
    """The name changed: the trigger word follows until it is chosen by hand."""
    name = st.session_state["np_name"].strip()
    answer(name=name)
    taken("np_name", name)
    if not draft().get("own_trigger"):
        answer(trigger=suggest_trigger(name, workspace(), draft().get("base_model", "")) if name else "")


def triggered() -> None:
    """The trigger word was chosen by hand. Emptied, it stays empty, so that another can be typed; it follows the name again."""
    word = st.session_state["np_trigger"].strip()
    answer(trigger=word, own_trigger=bool(word))
    taken("np_trigger", word)


def propose() -> None:
    """A trigger word from the name."""
    answer(
        trigger=suggest_trigger(draft()["name"], workspace(), draft().get("base_model", "")),
        own_trigger=False,
    )


def ask_name(known: dict[str, Any]) -> None:
    """How is it called, and which word calls it up?"""
    st.subheader("How shall it be called?", anchor=False)
    name, about = EXAMPLES[known["kind"]]
    synced("np_name", known.get("name", ""))
    st.text_input(
        "Name of the project",
        key="np_name",
        on_change=named,
        placeholder=f"Such as: {name}",
        max_chars=80,
        live=True,
    )
    synced("np_trigger", known.get("trigger", ""))
    st.text_input("Trigger word", key="np_trigger", on_change=triggered, max_chars=40, live=True,
                  placeholder="It is proposed from the name",
                  help="The word that calls your LoRA up in a prompt. It leads every caption. A made-up word is best, because "
                  "the base model has no idea of its own about it.")  # fmt: skip
    trigger = known.get("trigger", "")
    found = check_trigger(trigger, workspace(), known["base_model"]) if trigger else []
    if found:
        show_findings(found, key="np_trigger_found")
    elif trigger:
        read = trigger_words(trigger, workspace(), known["base_model"])
        st.markdown(":green[:material/check: A good trigger word]: made up, and no everyday word"
                    + (f" ({read} by the base model)." if read else "."))  # fmt: skip
    elif known.get("name"):
        st.button("Propose one from the name", key="np_propose", type="tertiary", icon=":material/auto_awesome:",
                  on_click=propose)  # fmt: skip
    synced("np_about", known.get("description", ""))
    st.text_area("What is it? (optional)", key="np_about", placeholder=f"Such as: {about}", height=80,
                 on_change=lambda: answer(description=st.session_state["np_about"].strip()))  # fmt: skip
    st.space("small")
    why = (
        "A name is missing."
        if not known.get("name")
        else "A trigger word is missing."
        if not trigger
        else "Mend the trigger word first."
        if blocking(found)
        else ""
    )
    buttons("model", "Go on", "pictures", blocked=why)


def tell_pictures(known: dict[str, Any]) -> None:
    """How many pictures, and the content-style problem."""
    kind = known["kind"]
    low, high = KINDS[kind]["images"]
    bad, bad_why, good, good_why, question, hint = BALANCE[kind]
    st.subheader(f"You need {low} to {high} pictures", anchor=False)
    st.markdown(KINDS[kind]["why"])
    st.markdown(
        "**The most common reason why a LoRA fails:** something besides what you teach is the same in every picture."
    )
    left, right = st.columns(2, gap="medium")
    with left.container(border=True, height="stretch"):
        st.image(str(shipped("pages", "static", f"alike-{kind}.svg")), width="stretch", alt=bad)
        st.markdown(f":red[:material/close:] **{bad}**  \n{bad_why}")
    with right.container(border=True, height="stretch"):
        st.image(str(shipped("pages", "static", f"kind-{kind}.svg")), width="stretch", alt=good)
        st.markdown(f":green[:material/check:] **{good}**  \n{good_why}")
    synced("np_notes", known.get("notes", ""))
    st.text_area(question, key="np_notes", placeholder=hint, height=80,
                 help="Whatever stays the same should be named in the captions. The studio reminds you there.",
                 on_change=lambda: answer(notes=st.session_state["np_notes"].strip()))  # fmt: skip
    link("guide", "More on this in the guide", icon=":material/menu_book:", topic="content-and-style")
    st.space("small")
    buttons("name", "Go on", "summary")


def summary(known: dict[str, Any]) -> None:
    """All answers, each with the way back to it."""
    st.subheader("Is this right?", anchor=False)
    entry = get_model(workspace(), known["base_model"])
    rows = [
        ("What you teach", str(KINDS[known["kind"]]["title"]), "kind"),
        ("Base model", entry.title, "model"),
        ("Name", plain(known["name"]), "name"),
        ("Trigger word", f"`{known['trigger']}`", "name"),
        ("Description", plain(known.get("description", "")) or ":gray[none]", "name"),
        ("Stays the same in all pictures" if known["kind"] != "style" else "What the pictures show",
         plain(known.get("notes", "")) or ":gray[nothing noted]", "pictures"),
    ]  # fmt: skip
    with st.container(border=True, gap="xsmall"):
        for n, (what, told, screen) in enumerate(rows):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f":gray[{what}]", width=240)
                st.markdown(told, width="stretch")
                st.button(
                    "Change",
                    key=f"np_change_{n}",
                    type="tertiary",
                    on_click=turn,
                    args=(screen,),
                    help=f"Change: {what.lower()}",
                )
    st.space("small")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Back", key="np_back", icon=":material/arrow_back:", on_click=turn, args=("pictures",))
        st.button(
            "Create the project",
            key="np_create",
            type="primary",
            icon=":material/check:",
            on_click=act,
            args=(create,),
        )
    what_next(
        "The project is made as a folder in your workspace.",
        "You add your pictures; the studio looks at each one and says what to mend.",
    )


def create() -> None:
    """Make the project and go to its dataset."""
    known = draft()
    project = create_project(
        workspace(),
        Intent(
            kind=known["kind"],
            name=known["name"],
            trigger=known["trigger"],
            description=known.get("description", ""),
            base_model=known["base_model"],
            notes=known.get("notes", ""),
        ),
    )
    start_over()
    st.session_state["np_open"] = project.slug
    say(f"**{plain(project.intent.name)}** is ready for its pictures.")


def screen_now(known: dict[str, Any]) -> str:
    """The screen to show: the one asked for, or the first that lacks an answer before it."""
    at = known.get("at", "kind")
    if at not in SCREENS or known.get("kind") not in KINDS:
        return "kind"
    if not known.get("base_model") and at not in ("kind", "model"):
        return "model"
    if at in ("pictures", "summary") and (not known.get("name") or not known.get("trigger")):
        return "name"
    return str(at)


opened = st.session_state.pop("np_open", "")
if opened:
    go("dataset", project=opened)
with page(
    "New project",
    "Four short questions. You can go back at any time, and every answer can be changed later.",
    width=WIDTH,
):
    answers = draft()
    at = screen_now(answers)
    number = SCREENS.index(at) + 1
    with st.container(horizontal=True, vertical_alignment="center"):
        words = f"Question {number} of {QUESTIONS}" if number <= QUESTIONS else "All questions answered"
        st.progress(min(number, QUESTIONS) / QUESTIONS, text=words)
    {"kind": ask_kind, "model": ask_model, "name": ask_name, "pictures": tell_pictures, "summary": summary}[
        at
    ](answers)
    if len(answers) > 1:
        st.space("medium")
        st.button(
            "Start over", key="np_over", type="tertiary", icon=":material/restart_alt:", on_click=start_over
        )
    if advanced():
        st.caption(f"Projects lie in `{workspace().projects_dir}`.")
