"""A vision-language model in a folder, run by transformers: a tiny LLaVA, made here, that can say one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.captions import auto
from studio.captions.auto import AutoSettings, LocalSettings
from studio.captions.describe import WordSettings
from studio.captions.proposals import Ask, Proposal, Trouble
from studio.captions.workers.asking import Refused
from studio.captions.workers.local import LocalEngine
from studio.errors import InputError
from studio.project import Project

SAYS = json.dumps({"content": ["a boat"], "style": ["ink"], "caption": "a boat on a lake"})
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}"
    "{% endif %}{% endfor %}{% endfor %}"
)


def tiny_llava(folder: Path, *, says: str = SAYS) -> Path:
    """A LLaVA of a few thousand numbers, saved as transformers saves it. Its weights are set so that it answers `says`, which
    is one token of its vocabulary, and ends: every layer passes on the last word, and the head maps any word to the answer,
    the answer to the end."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    words = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_tokens([says])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16, projection_dim=16),
        text_config=LlamaConfig(vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=4096),
        image_token_index=3, vision_feature_layer=-1, vision_feature_select_strategy="default", image_seq_length=4,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    answer, end = tokenizer.convert_tokens_to_ids(says), 2
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                p.zero_()
        any_word, was_answer = torch.zeros(16), torch.zeros(16)
        any_word[0], was_answer[1] = 1.0, 1.0
        table = model.get_input_embeddings().weight
        table[:] = any_word
        table[answer] = was_answer
        head = model.get_output_embeddings().weight
        head.zero_()
        head[answer], head[end] = any_word, was_answer
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = end
    model.save_pretrained(folder)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer, patch_size=16, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1, chat_template=TEMPLATE,
    )  # fmt: skip
    processor.save_pretrained(folder)
    return folder


pytestmark = pytest.mark.slow  # loads torch and transformers


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("models") / "tiny-llava")


def test_a_local_model_describes_pictures(llava: Path, tmp_path: Path, project: Project) -> None:
    asks = []
    for n, size in enumerate([(200, 100), (64, 64)]):
        path = tmp_path / f"{n}.png"
        Image.new("RGB", size, "navy").save(path)
        asks.append(Ask(path.name, path, "ab"))
    (tmp_path / "bad.png").write_bytes(b"nothing")
    made = LocalEngine(LocalSettings(folder=str(llava), side=128), "What is it?", "sentences", WordSettings())
    with made as engine:
        assert engine.device in ("processor", "graphics card")
        found = list(engine.caption([*asks, Ask("bad.png", tmp_path / "bad.png")], lambda: False))
        assert list(engine.caption(asks, lambda: True)) == []
    assert isinstance(found[0], Proposal) and isinstance(found[1], Proposal)
    assert (found[0].caption, found[0].content, found[0].style) == ("a boat on a lake", ("a boat",), ("ink",))
    assert isinstance(found[2], Trouble)
    ready = auto.ready(project, AutoSettings(engine="local", local=LocalSettings(folder=str(llava))))
    assert ready.author == "tiny-llava" and not ready.secrets


def test_folders_that_are_no_model(llava: Path, tmp_path: Path, project: Project) -> None:
    def told(folder: Any) -> str:
        with pytest.raises(InputError) as e:
            auto.ready(project, AutoSettings(engine="local", local=LocalSettings(folder=str(folder))))
        assert e.value.fix
        return str(e.value) + " ".join(f.why for f in e.value.findings)

    assert "No folder is named" in told("")
    assert "no folder" in told(tmp_path / "missing")
    assert "no folder" in told("relative/path")
    (tmp_path / "empty").mkdir()
    every = told(tmp_path / "empty")
    assert all(w in every for w in ("config.json", ".safetensors", "preprocessor", "tokenizer")), (
        "all at once"
    )
    (tmp_path / "empty" / "pytorch_model.bin").write_bytes(b"x")
    assert "can run programs" in told(tmp_path / "empty")


def test_a_damaged_model_is_told(llava: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(llava, broken)
    (broken / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    made = LocalEngine(LocalSettings(folder=str(broken)), "?", "sentences", WordSettings())
    with pytest.raises(Refused, match="cannot be loaded"):
        made.__enter__()
