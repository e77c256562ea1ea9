"""Trains the UNet and the text encoder together from nothing on the latents of the 64 subjects."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scripts.pocket import captions, parallel, pictures, styles, tokenizer, vae

BATCH = 24
"""Latents per step, both processes together."""
PEAK_RATE = 1e-3
EMA = 0.998
WHITE_SHARE = 0.62
STYLED_SHARE = 0.09
NOISE_POWER = 0.75
"""Training noise levels are 1000 u^0.75 with u even in 0..1: somewhat more of the noisy steps, where shapes are decided."""
KEEP_EVERY = 400
"""Steps between the averaged weights saved on the way."""
WIDTH = 192


def build_unet() -> UNet2DConditionModel:
    """An untrained UNet of 8.9 million parameters; looks at the words at 16 x 16, 8 x 8 and in the middle."""
    return UNet2DConditionModel(
        sample_size=pictures.NATIVE // 4,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder of 1.2 million parameters."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.LENGTH,
            hidden_act="quick_gelu",
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule with v-prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


class Pair(nn.Module):
    """UNet and text encoder as one module, so that one optimizer and one average hold both."""

    def __init__(self, words: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = build_unet()
        self.text = build_text_encoder(words)

    def forward(self, noisy: Tensor, steps: Tensor, ids: Tensor) -> Tensor:
        """The predicted v."""
        return self.unet(noisy, steps, encoder_hidden_states=self.text(ids).last_hidden_state).sample


@torch.no_grad()
def latents(work: Path) -> dict[str, Tensor]:
    """Look -> 64 x 4 x 16 x 16 latents; a look is a ground colour or the name of a known style."""
    cached = work / "latents.pt"
    if not cached.exists():
        model = vae.load(work)
        data: pictures.Pictures = torch.load(work / "pictures.pt", weights_only=False)
        rgba = torch.from_numpy(data.rgba[data.subjects()]).permute(0, 3, 1, 2).float() / 255
        looks = {g: styles.composite(rgba, torch.tensor([c])) for g, c in styles.GROUNDS.items()}
        looks |= {name: styles.STYLES[name](rgba) for name in styles.KNOWN_STYLES}
        torch.save({k: model.encode(v * 2 - 1).latent_dist.mean for k, v in looks.items()}, cached)
    return torch.load(cached, weights_only=True)


class Drawer:
    """Draws captioned latents. No mirror images: with them the shapes did not come within the training time."""

    def __init__(self, looks: dict[str, Tensor], seed: int) -> None:
        self.looks = looks
        self.random = random.Random(seed)
        self.colours = [ground for ground in styles.GROUNDS if ground != "white"]
        self.words = [
            captions.Words(name, pictures.SYNONYMS.get(name, ()), pictures.COLOURS.get(name))
            for name in pictures.SUBJECTS.values()
        ]

    def batch(self, size: int) -> tuple[Tensor, list[str]]:
        """size x 4 x 16 x 16 latents and their captions."""
        chosen, texts = [], []
        for _ in range(size):
            row = self.random.randrange(len(self.words))
            style, look = None, "white"
            if self.random.random() < STYLED_SHARE:
                look = self.random.choice(list(styles.KNOWN_STYLES))
                style = styles.KNOWN_STYLES[look]
            elif self.random.random() >= WHITE_SHARE:
                look = self.random.choice(self.colours)
            chosen.append(self.looks[look][row])
            texts.append(captions.caption(self.words[row], look, style, self.random))
        return torch.stack(chosen), texts


def train(rank: int, work: Path, minutes: float) -> None:
    """One of the two processes. Process 0 writes `unet_log.csv`, `unet_<step>.pt` and at the end `unet.pt`."""
    torch.manual_seed(0)
    words = tokenizer.load(work / "tokenizer")
    pair = Pair(words).train()
    weights = [p for p in pair.parameters() if p.requires_grad]
    parallel.share(weights)
    torch.manual_seed(100 + rank)
    drawer = Drawer(latents(work), seed=100 + rank)
    optimizer = torch.optim.AdamW(weights, lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average = parallel.Average(pair, EMA)
    noise_levels = scheduler()
    clock = parallel.Clock(minutes)
    log = (work / "unet_log.csv").open("w", newline="") if rank == 0 else None
    writer = csv.writer(log) if log else None
    if writer:
        writer.writerow(["step", "loss"])
    step, progress, recent = 0, 0.0, []
    while progress < 1:
        rate = clock.rate(PEAK_RATE, step, progress, warmup=100)
        for group in optimizer.param_groups:
            group["lr"] = rate
        clean, texts = drawer.batch(BATCH // parallel.WORLD)
        ids = words(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        noise = torch.randn_like(clean)
        steps = (1000 * torch.rand(len(clean)) ** NOISE_POWER).long().clamp(max=999)
        noisy = noise_levels.add_noise(clean, noise, steps)
        target = noise_levels.get_velocity(clean, noise, steps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = pair(noisy, steps, ids)
        loss = F.mse_loss(predicted.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        value, progress = parallel.average(weights, loss.item(), clock.progress())
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
        if rank == 0:
            average.update(pair)
            recent.append(value)
            if step % 25 == 0 or progress >= 1:
                mean = sum(recent) / len(recent)
                recent = []
                print(f"unet step {step} progress {progress:.3f} loss {mean:.4f}", flush=True)
                assert writer and log
                writer.writerow([step, round(mean, 5)])
                log.flush()
            if step % KEEP_EVERY == 0:
                torch.save(average.state, work / f"unet_{step:05d}.pt")
    if rank == 0:
        torch.save(average.state, work / "unet.pt")


def load(work: Path, weights: Path) -> Pair:
    """The pair with the weights of one saved average."""
    pair = Pair(tokenizer.load(work / "tokenizer"))
    pair.load_state_dict(torch.load(weights, weights_only=True))
    return pair.eval()
