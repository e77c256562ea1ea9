"""A CLIP tokenizer with a small vocabulary learnt from the picture names; every byte has a token, so any word works."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from scripts.pocket import captions, pictures, styles

MERGES = 1221
"""With 512 byte tokens and 2 special ones this gives the 1,735 tokens of the vocabulary."""
LENGTH = 32
"""Longest caption in tokens, start and end included."""
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def corpus(data: pictures.Pictures) -> list[str]:
    """Every name and synonym, with the subjects and the caption phrases said often enough to become one token a word."""
    lines = [text for name, tags in zip(data.names, data.tags, strict=True) for text in (name, *tags)]
    common = [f"on a {ground} background" for ground in styles.GROUNDS]
    common += [*captions.PLAIN_FILLERS, *captions.STYLE_WORDS, *styles.KNOWN_STYLES.values()]
    return lines + [*pictures.SUBJECTS.values(), *common] * 50


def train(data: pictures.Pictures, folder: Path) -> None:
    """Write vocab.json and merges.txt in the layout of CLIP: bytes, bytes that end a word, merges, specials."""
    model = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=4096, end_of_word_suffix=WORD_END, show_progress=False, min_frequency=1
    )
    model.train_from_iterator(corpus(data), trainer)
    merges = [tuple(pair) for pair in json.loads(model.to_str())["model"]["merges"]][:MERGES]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in merges), START, END]
    tokens = list(dict.fromkeys(tokens))
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def load(folder: Path) -> CLIPTokenizer:
    """The tokenizer as the pipeline uses it, padded with the end token as Stable Diffusion does."""
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    rows = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=[tuple(row.split(" ")) for row in rows],
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=LENGTH,
    )


def save(folder: Path, target: Path) -> None:
    """Write all three files: transformers itself saves only tokenizer.json, other tools look for the other two."""
    load(folder).save_pretrained(target)
    for name in ("vocab.json", "merges.txt"):
        (target / name).write_bytes((folder / name).read_bytes())


def build(data: pictures.Pictures, folder: Path) -> None:
    """Train, and check that nothing is out of reach of the vocabulary."""
    train(data, folder)
    tokenizer = load(folder)
    for word in ("car", "bluprnt", "Überraschung", "日本", "x1!", captions.made_up(random.Random(0))):
        ids = tokenizer(word).input_ids
        assert tokenizer.unk_token_id not in ids[1:-1], f"{word!r} needs an unknown token"
