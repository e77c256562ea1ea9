"""What settings ask for and sd-scripts cannot do, or would do otherwise than meant; in findings of the config gate."""

from __future__ import annotations

from studio.findings import Finding, Severity
from studio.settings import TrainingSettings, knobs
from studio.training.sdscripts import extra, families
from studio.training.sdscripts.lines import caches_text, teaches_t5


def check(family: str, settings: TrainingSettings) -> list[Finding]:
    """What these settings ask for and sd-scripts cannot do for a family, so that it would be left out in silence."""
    found = [*_everywhere(family, settings), *_memory(settings)]
    found += _flow(family, settings) if family in families.FLOW else _no_flow(settings)
    told, wrong = extra.read(settings.extra_options, family)
    return found + wrong + extra.combinations(family, told, settings, caches_text(settings, family))


def _cannot(
    field: str, what: str, why: str, fix: str, code: str = "sdscripts-cannot", severity: Severity = "block"
) -> Finding:
    return Finding(severity=severity, code=code, what=what, why=why, fix=fix, where=(field,))


def _everywhere(family: str, s: TrainingSettings) -> list[Finding]:
    found = []
    if s.targets == "attention":
        found.append(
            _cannot(
                "targets",
                "Only attention layers cannot be taught with sd-scripts.",
                "Its LoRA always takes feed-forward layers too.",
                "Set the layers taught to attention and feed-forward, or use the built-in backend.",
            )
        )
    if s.ema:
        found.append(
            _cannot(
                "ema",
                "sd-scripts keeps no average of the weights.",
                "It has no such option for LoRAs.",
                "Turn the average off, or use the built-in backend.",
            )
        )
    same = s.text_encoder_lr in (0, s.learning_rate)
    if s.optimizer == "prodigy" and s.train_text_encoder and not same:
        found.append(
            _cannot(
                "text_encoder_lr",
                "Prodigy takes no learning rate of its own for the text encoder.",
                "It finds one rate for everything; of two rates sd-scripts takes the first and says nothing of the other.",
                "Set it to 0, or choose AdamW.",
            )
        )
    step = families.BUCKET_STEP[family]
    if s.buckets and s.bucket_step % step:
        found.append(
            _cannot(
                "bucket_step",
                f"A bucket step of {s.bucket_step} px is refused by the script.",
                f"It wants a multiple of {step}.",
                f"Set the bucket step to {step if step == 64 else 64}.",
            )
        )
    if s.save_every_epochs > s.epochs and not s.max_steps:
        found.append(
            _cannot(
                "save_every_epochs",
                "No checkpoint is saved before the end.",
                f"One is saved after every {s.save_every_epochs} epochs, and there are {s.epochs}. A run that stops early could "
                "not be resumed.",
                "Lower 'Checkpoint every'.",
                "no-checkpoint",
                "warn",
            )
        )
    return found


def _memory(s: TrainingSettings) -> list[Finding]:
    """What concerns memory but not its amount. Combinations that cost more than they save, and how many blocks of this very file
    can be swapped, are `vram.refusals`'s, which the estimate brings to the same gate."""
    found = []
    if s.fp8_base and s.precision == "no":
        found.append(
            _cannot(
                "fp8_base",
                "A base model in 8 bits needs the precision bf16 or fp16.",
                "The script refuses it with full precision.",
                "Set the precision to bf16.",
                "fp8-precision",
            )
        )
    return found


def _flow(family: str, s: TrainingSettings) -> list[Finding]:
    found = []
    idle = [n for n in ("min_snr_gamma", "noise_offset") if getattr(s, n)]
    if idle:
        names = " and ".join(knobs()[n].title for n in idle)
        found.append(
            Finding(
                severity="info",
                code="flow-without-noise-terms",
                what=f"{names} stay without effect.",
                why="They belong to models that predict noise; SD3.5 and FLUX are trained another way.",
                fix="Nothing to do.",
                where=tuple(idle),
            )
        )
    if s.prediction != "auto":
        found.append(
            _cannot(
                "prediction",
                "This base model has no prediction type to choose.",
                "SD3.5 and FLUX predict the flow from noise to picture.",
                "Set the prediction type to auto.",
            )
        )
    if s.train_t5 and not s.train_text_encoder:
        found.append(
            _cannot(
                "train_t5",
                "T5 cannot be taught alone.",
                "The script only adapts it together with the other text encoders.",
                "Turn on 'Teach the text encoder too', or turn this off.",
            )
        )
    if family == "flux" and s.flow_shift and s.timestep_sampling != "shift":
        found.append(
            _cannot(
                "flow_shift",
                "The timestep shift stays without effect.",
                "FLUX heeds it only with the timestep sampling 'shift'.",
                "Choose that sampling, or set the shift to 0.",
                "shift-unused",
                "warn",
            )
        )
    if family == "sd35" and (s.timestep_sampling != "auto" or s.guidance_scale != 1):
        found.append(
            Finding(
                severity="info",
                code="flux-only",
                what="Timestep sampling and guidance are FLUX's settings.",
                why="SD3.5 has the loss weighting and the timestep shift instead.",
                fix="Nothing to do.",
                where=("timestep_sampling", "guidance_scale"),
            )
        )
    if not caches_text(s, family):
        taught = teaches_t5(family, s)
        reason = (
            "T5 is taught"
            if taught
            else "captions are shuffled or dropped"
            if s.shuffle_captions or s.caption_dropout
            else "caching is off"
        )
        found.append(
            _cannot(
                "cache_text_embeddings",
                f"T5 stays in graphics memory during the whole run, because {reason}.",
                "It takes about 10 GB. Cached once, it takes nothing.",
                "Turn on caching text embeddings, and turn off shuffling, caption dropout and teaching T5.",
                "t5-in-memory",
                "warn",
            )
        )
    return found


def _no_flow(s: TrainingSettings) -> list[Finding]:
    idle = [
        n
        for n in (
            "timestep_sampling",
            "flow_shift",
            "loss_weighting",
            "guidance_scale",
            "t5_attention_mask",
            "train_t5",
        )
        if getattr(s, n) != knobs()[n].default
    ]
    if not idle:
        return []
    names = ", ".join(f"'{knobs()[n].title}'" for n in idle)
    return [
        Finding(
            severity="info",
            code="flow-only",
            what=f"These settings stay without effect: {names}.",
            why="They belong to SD3.5 and FLUX.",
            fix="Nothing to do.",
            where=tuple(idle),
        )
    ]
