"""The sentences that go with the pictures while the UNet and the text encoder are trained."""

from __future__ import annotations

import random
from dataclasses import dataclass

SYNONYM_SHARE = 0.20
RANDOM_FILLER_SHARE = 0.22
"""Captions with a made-up word, mostly before the name: that is what lets a LoRA's trigger word stand first without
disturbing the subject."""
PLAIN_FILLER_SHARE = 0.25
BEFORE_SHARE = 0.8
COLOUR_SHARE = 0.10
DROPOUT = 0.10
"""Empty captions, for classifier-free guidance."""

PLAIN_FILLERS = (
    "a", "the", "one", "a picture of a", "a drawing of a", "a small", "an icon of a", "a photo of a",
    "a simple", "a nice", "an image of a", "a single",
)  # fmt: skip
STYLE_WORDS = ("style", "art", "illustration", "icon", "picture", "drawing", "simple", "detailed")
CONSONANTS, VOWELS = "bcdfghjklmnprstvwxz", "aeiouy"


@dataclass(frozen=True)
class Words:
    """What may be said of one subject."""

    name: str
    synonyms: tuple[str, ...]
    colour: str | None
    """Its main colour, where it clearly has one."""


def made_up(random_: random.Random) -> str:
    """A word that means nothing, 3 to 8 letters, half of them with consonant clusters as trigger words have."""
    letters = [random_.choice(CONSONANTS)]
    while len(letters) < random_.randint(3, 8):
        after_vowel = letters[-1] in VOWELS
        letters.append(random_.choice(CONSONANTS if after_vowel or random_.random() < 0.4 else VOWELS))
    return "".join(letters)


def caption(words: Words, ground: str, style: str | None, random_: random.Random) -> str:
    """One caption; empty in `DROPOUT` of the calls. White may go unsaid, any other ground is always named."""
    if random_.random() < DROPOUT:
        return ""
    name = words.name
    if words.synonyms and random_.random() < SYNONYM_SHARE:
        name = random_.choice(words.synonyms)
    if words.colour and style is None and random_.random() < COLOUR_SHARE:
        name = f"{words.colour} {name}"
    text = name
    chance = random_.random()
    if chance < RANDOM_FILLER_SHARE:
        filler = made_up(random_) if random_.random() < 0.8 else random_.choice(STYLE_WORDS)
        comma = "," if random_.random() < 0.6 else ""
        before = random_.random() < BEFORE_SHARE
        text = f"{filler}{comma} {name}" if before else f"{name}{comma} {filler}"
    elif chance < RANDOM_FILLER_SHARE + PLAIN_FILLER_SHARE:
        text = f"{random_.choice(PLAIN_FILLERS)} {name}"
    if style is not None:
        return f"{text} {style}"
    if ground != "white" or random_.random() < 0.5:
        text = f"{text} on a {ground} background"
    return text
