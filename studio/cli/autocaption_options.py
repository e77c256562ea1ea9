"""The options of `autocaption set`, and the settings that they belong to."""

from __future__ import annotations

from studio.cli.spec import Option
from studio.cli.values import listed, number, one_of, text, whole

# option of `autocaption set` -> the part of the settings that it belongs to, and its name there
PLACES: dict[str, tuple[str, str]] = {
    "engine": ("", "engine"), "mode": ("", "mode"), "also": ("", "also"),
    "general": ("tagger", "general"), "character": ("tagger", "character"), "mcut": ("tagger", "mcut"),
    "exclude": ("tagger", "exclude"), "underscores": ("tagger", "underscores"), "order": ("tagger", "order"),
    "rating": ("tagger", "rating"), "batch": ("tagger", "batch"), "resize": ("tagger", "resize"),
    "address": ("endpoint", "address"), "own_network": ("endpoint", "own_network"), "key": ("endpoint", "key"),
    "timeout": ("endpoint", "timeout_s"), "at_once": ("endpoint", "at_once"),
    "picture_input": ("replicate", "picture"), "text_input": ("replicate", "question"),
    "format": ("words", "format"), "say": ("words", "say"), "hint": ("words", "hint"), "most_words": ("words", "most_words"),
}  # fmt: skip


def _hint_text(raw: str) -> str:
    """Text that may be empty, which takes the hint away."""
    return "" if not raw.strip() else text(1000)(raw)


def _exclusions(raw: str) -> tuple[str, ...]:
    return (
        ()
        if not raw.strip()
        else tuple(str(t) for t in listed(text(100), "simple background, signature", 500)(raw))
    )


MODES = ("only-empty", "append", "replace")
_TAGGER, _SERVICE, _WORDS = "Tagger", "Service", "Descriptions"
SET_OPTIONS = (
    Option("--engine", "What writes: tagger, endpoint (a description service), local (a model in a folder), replicate.",
           metavar="NAME", convert=one_of(("tagger", "endpoint", "local", "replicate"))),
    Option("--model", "The engine's model: a tagger's id or folder, the service's model, the folder of a local model, or "
           "owner/name on Replicate.", metavar="NAME", convert=text(500)),
    Option("--mode", "What happens to captions that are there. A person's words are never replaced.", metavar="MODE",
           convert=one_of(MODES)),
    Option("--also", "With --mode replace: captions that came with the pictures (imported), or that you approved.",
           metavar="LIST", convert=listed(one_of(("imported", "approved")), "imported,approved", 2)),
    Option("--general", "Least probability of a tag; 0.35 unless told.", metavar="P", convert=number(0, 1, 0.35), group=_TAGGER),
    Option("--character", "Least probability of a character's name; 0.85 unless told.", metavar="P",
           convert=number(0, 1, 0.85), group=_TAGGER),
    Option("--mcut", "Find both thresholds for each picture by the largest gap (MCut).", negatable=True, group=_TAGGER),
    Option("--exclude", "Tags that are never written, with commas between them; '' for none.", metavar="TAGS",
           convert=_exclusions, group=_TAGGER),
    Option("--underscores", "Keep underscores in tags.", negatable=True, group=_TAGGER),
    Option("--order", "confidence: the surest first; model: as the tagger lists them.", metavar="ORDER",
           convert=one_of(("confidence", "model")), group=_TAGGER),
    Option("--rating", "Write the rating as the last tag.", negatable=True, group=_TAGGER),
    Option("--resize", "bicubic: as the taggers were made; area: tag for tag as the tagging script of sd-scripts.",
           metavar="WAY", convert=one_of(("bicubic", "area")), group=_TAGGER),
    Option("--batch", "Pictures at once.", metavar="N", convert=whole(1, 64, 4), group=_TAGGER),
    Option("--address", "Where the service's interface begins, such as http://localhost:11434/v1.", metavar="URL",
           convert=text(500), group=_SERVICE),
    Option("--own-network", "The service is in your own network, at a private address.", negatable=True, group=_SERVICE),
    Option("--key", "Send OPENAI_API_KEY: auto (over https only), always, never.", metavar="WHEN",
           convert=one_of(("auto", "always", "never")), group=_SERVICE),
    Option("--timeout", "Seconds to wait for one answer.", metavar="S", convert=number(5, 900, 180), group=_SERVICE),
    Option("--at-once", "Pictures asked about at the same time.", metavar="N", convert=whole(1, 8, 1), group=_SERVICE),
    Option("--side", "Pictures are made smaller than this before they are sent, pixels.", metavar="PX",
           convert=whole(256, 2048, 1024), group=_SERVICE),
    Option("--picture-input", "Replicate: name of the model's input for the picture.", metavar="NAME", convert=text(60), group=_SERVICE),
    Option("--text-input", "Replicate: name of the model's input for the text.", metavar="NAME", convert=text(60), group=_SERVICE),
    Option("--format", "auto (as the base model was raised), tags or sentences.", metavar="FORMAT",
           convert=one_of(("auto", "tags", "sentences")), group=_WORDS),
    Option("--say", "content: leave out what is taught; both: also how the picture is made.", metavar="WHAT",
           convert=one_of(("content", "both")), group=_WORDS),
    Option("--hint", "Your own words to the model; '' for none.", metavar="TEXT", convert=_hint_text, group=_WORDS),
    Option("--most-words", "Length of a caption.", metavar="N", convert=whole(5, 200, 40), group=_WORDS),
)  # fmt: skip
