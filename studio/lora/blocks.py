"""Which block of its model a layer belongs to, by its name: for figures that gather layers as a person thinks of them."""

from __future__ import annotations

import re

_TEXT = re.compile(
    r"^(?:lora_te(?P<n>[123])?_|text_encoder(?:_(?P<m>[23]))?\.|clip_l|clip_g|t5xxl|lycoris_te)"
)
# What the name says -> how the block is called, in the order of the model. Names with dots and with underscores alike.
_BLOCKS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), word)
    for pattern, word in (
        (r"down_blocks[._](\d+)", "down {0}"),
        (r"input_blocks[._](\d+)", "in {0}"),
        (r"mid(?:dle)?_block", "middle"),
        (r"output_blocks[._](\d+)", "out {0}"),
        (r"up_blocks[._](\d+)", "up {0}"),
        (r"double_blocks[._](\d+)", "double {0}"),
        (r"single_transformer_blocks[._](\d+)", "single {0}"),
        (r"single_blocks[._](\d+)", "single {0}"),
        (r"joint_blocks[._](\d+)", "joint {0}"),
        (r"(?<!single_)transformer_blocks[._](\d+)", "block {0}"),
    )
)
_ORDER = ("text", "in", "down", "middle", "out", "up", "joint", "block", "double", "single", "other")


def block_of(stem: str) -> str:
    """ "down 1", "middle", "double 7", "text 2" and so on; "other" when the name does not tell."""
    bare = stem.removeprefix("base_model.model.")
    text = _TEXT.match(bare)
    if text:
        return f"text {text['n'] or text['m'] or 1}"
    for pattern, word in _BLOCKS:
        found = pattern.search(bare)
        if found:
            return word.format(*found.groups())
    return "other"


def block_order(block: str) -> tuple[int, int]:
    """Where a block stands in its model, to sort by."""
    word, _, number = block.partition(" ")
    return (_ORDER.index(word) if word in _ORDER else len(_ORDER), int(number) if number.isdigit() else 0)
