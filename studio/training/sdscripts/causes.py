"""Why a training script of sd-scripts failed: its own words, put into plain ones.

Each row was seen in a recorded failure, or follows from the script's documented limits. The order counts: the first
row that fits is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from studio.findings import Finding


@dataclass(frozen=True)
class Cause:
    """One known failure. pattern: searched, without regard to case, in `Kind: text` of an exception or in an error line;
    what, why and fix may use its named groups in braces."""

    code: str
    pattern: str
    what: str
    why: str
    fix: str


CAUSES: tuple[Cause, ...] = (
    Cause(
        "no-pictures",
        r"No data found\.",
        "It trained on nothing: no picture was found.",
        "The folder in the dataset settings is missing, empty, or not laid out as the script expects. The script ends "
        "with exit code 0 all the same.",
        "Check the folder (image_dir). With train_data_dir, name the folder that holds folders such as `10_mystyle`, not "
        "the one with the pictures.",
    ),
    Cause(
        "out-of-memory",
        r"OutOfMemoryError|(?:CUDA|HIP)(?: error:)? out of memory|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED",
        "The graphics card ran out of memory.",
        "The settings need more than it has free.",
        "Halve the batch size (and double gradient accumulation), lower the resolution, or turn on gradient "
        "checkpointing and caching. Close other programs that use the card.",
    ),
    Cause(
        "computer-memory",
        # The last is oneDNN's, which PyTorch computes with on a CPU, when the system gives it no more (seen under ulimit -v).
        r"MemoryError|cannot allocate memory|DefaultCPUAllocator|std::bad_alloc|could not create a primitive(?! desc)",
        "The computer ran out of memory.",
        "Models and cached pictures did not fit into it.",
        "Close other programs, or turn on lowram and disk caching.",
    ),
    Cause(
        "disk-full",
        r"No space left on device|os error 28|Disk quota exceeded|I/O error.*ENOSPC",
        "The disk is full.",
        "A checkpoint or a cache file could not be written; a file of that moment may be cut off.",
        "Free some room, delete the newest checkpoint if it is damaged, and start again from the last whole one.",
    ),
    Cause(
        "flag-unknown",
        r"unrecognized arguments: (?P<name>.+)",
        "An option is not known to this script: {name}.",
        "It is misspelt, belongs to another script, or to another version of sd-scripts.",
        "Correct or remove it. Mind that an unknown key in a config file is not told at all.",
    ),
    Cause(
        "value-not-allowed",
        r"argument (?P<name>--\w+): invalid (?:choice: (?P<value>\S+) \(choose from (?P<choices>.+)\)|\w+ value: (?P<other>.+))",
        "{name} has a value that it does not take: {value}{other}.",
        "It takes: {choices}.",
        "Choose one of these.",
    ),
    Cause(
        "config-missing",
        r"(?P<name>\S+\.toml) not found\.",
        "The config file is not there: {name}.",
        "Nothing lies under that name.",
        "Check the path after --config_file.",
    ),
    Cause(
        "dataset-config-missing",
        r"file not found / [^:]*: (?P<name>.+)",
        "The dataset config is not there: {name}.",
        "Nothing lies under that name.",
        "Check the path after --dataset_config.",
    ),
    Cause(
        "config-syntax",
        r"TomlDecodeError: (?P<text>.+?)(?: \((?P<place>line \d+)[^)]*\))?$",
        "A config file is no valid TOML ({place}).",
        "The reader says: {text}.",
        "Mend that line. Text stands in quotation marks, and each line is `name = value`.",
    ),
    Cause(
        "dataset-key",
        r"extra keys not allowed @ data(?P<place>\S+)",
        "The dataset config has a key that is not known: {place}.",
        "It is misspelt, or stands in the wrong section.",
        "Correct or remove it.",
    ),
    Cause(
        "dataset-type",
        r"expected (?P<kind>\w+) for dictionary value @ data(?P<place>\S+)",
        "A value in the dataset config has the wrong type: {place}.",
        "It has to be: {kind}. The dataset config makes a difference between 1 and 1.0.",
        "Write it as such: a float with a point (0.0), text in quotation marks, true or false in small letters.",
    ),
    Cause(
        "dataset-empty",
        r"datasets should not be an empty iterable",
        "The dataset config has no dataset that can be used.",
        "It names no [[datasets]] with a subset, or every subset was left out because its folder holds no picture.",
        "Check that each subset's image_dir exists and holds pictures.",
    ),
    Cause(
        "no-resolution",
        r"resolution is required",
        "No resolution is set.",
        "Neither the dataset config nor the options name one.",
        "Add resolution to [general] or to [[datasets]]: the base model's own, such as 512 or 1024.",
    ),
    Cause(
        "bucket-range",
        r"m(?:ax|in)_bucket_reso must be equal or (?:greater|less) than resolution",
        "The range of buckets does not hold the resolution.",
        "max_bucket_reso has to be at least the resolution, and min_bucket_reso at most.",
        "Raise max_bucket_reso (twice the resolution is usual), or lower the resolution.",
    ),
    Cause(
        "pictures-unreadable",
        r"ZeroDivisionError: (?:float )?division(?: or modulo)? by zero",
        "No picture could be read, or one is too narrow for a bucket.",
        "Every picture of a subset is damaged, or one has less than a bucket step across once it is scaled, so that nothing was left "
        "to divide by.",
        "Look for warnings about files further up and replace these pictures; set very narrow ones aside, or let small ones be "
        "enlarged.",
    ),
    Cause(
        "picture-unreadable",
        # The second is Pillow's for a file whose head already ends too early, seen with a PNG of 17 bytes.
        r"UnidentifiedImageError|image file is truncated|Truncated File Read|cannot identify image file",
        "A picture cannot be read.",
        "It is damaged, or no picture.",
        "The line names it: replace it, or remove it.",
    ),
    Cause(
        "model-missing",
        r"pretrained_model_name_or_path \"?(?P<name>[^\"]+)\"? is neither a valid local path",
        "The base model is not there: {name}.",
        "It is neither a file on this computer nor the name of a repository.",
        "Check the path of the base model.",
    ),
    Cause(
        "model-offline",
        r"LocalEntryNotFoundError|couldn't connect to 'https://huggingface|Max retries exceeded|OfflineModeIsEnabled",
        "A file of the model could not be fetched.",
        "The script wanted to load a tokenizer or a model from the internet, and could not reach it.",
        "Connect to the internet for the first start, or point tokenizer_cache_dir and the model paths to local files.",
    ),
    Cause(
        "model-damaged",
        r"SafetensorError: .*(?:HeaderTooSmall|HeaderTooLarge|InvalidHeader\w*|MetadataIncompleteBuffer|deserializing header)",
        "A model file is damaged.",
        "Its header cannot be read, or it is shorter than its header says: most often a download that was cut off.",
        "Download it again, and compare its size.",
    ),
    Cause(
        "model-wrong-kind",
        r"KeyError: '(?P<name>time_embed\.0\.weight|model\.diffusion_model\.[^']+|cond_stage_model[^']*|conditioner\.[^']+)'",
        "The base model file holds something else than this script trains.",
        "A layer that every such model has is missing ({name}). A LoRA, a VAE or a model of another family was named.",
        "Name a whole checkpoint, and use the script of its family: train_network for SD1.5, sdxl_train_network for SDXL.",
    ),
    Cause(
        "lora-shape",
        r"Error\(s\) in loading state_dict for (?:LoRA|LyCORIS)\w*",
        "The LoRA to go on from has another shape.",
        "Its rank or its layers differ from the settings of this run.",
        "Use the rank and the network module that it was trained with.",
    ),
    Cause(
        "model-wrong-size",
        # The second is that of a diffusers folder whose config.json and weights differ.
        r"Error\(s\) in loading state_dict for (?P<name>\w+)|Cannot load .{1,300}? because (?P<layer>\S+) expected shape",
        "The base model does not fit this script.",
        "Its layers have other sizes than the script expects ({name}{layer}): it belongs to another family, or a config.json "
        "beside it is another model's.",
        "Use the script of its family, or choose another base model.",
    ),
    Cause(
        "optimizer-unknown",
        r"module 'torch\.optim' has no attribute '(?P<name>\w+)'",
        "There is no optimizer called {name}.",
        "Its name is misspelt, or it needs a package that is not installed.",
        "Use AdamW, AdamW8bit, Prodigy, Lion or Adafactor, spelt like this.",
    ),
    Cause(
        "scheduler-unknown",
        r"(?P<name>\S+) is not a valid SchedulerType",
        "There is no learning rate schedule called {name}.",
        "Its name is misspelt.",
        "Use constant, constant_with_warmup, linear, cosine, cosine_with_restarts or polynomial.",
    ),
    Cause(
        "network-module-unknown",
        r"No module named '(?P<name>networks\.\w+|lycoris[\w.]*)'",
        "There is no network module called {name}.",
        "It is misspelt, or its package is not installed.",
        "Use networks.lora for SD1.5 and SDXL, networks.lora_flux for FLUX, networks.lora_sd3 for SD3.5.",
    ),
    Cause(
        "package-missing",
        r"No module named '(?P<name>[\w.]+)'|ImportError: No (?P<other>\w+) /",
        "The package {name}{other} is not installed in the environment of sd-scripts.",
        "An option that was chosen needs it.",
        "Install it there, or choose an option that does without: sdpa in place of xformers, AdamW in place of AdamW8bit.",
    ),
    Cause(
        "state-missing",
        r"Tried to find (?P<name>.+) but folder does not exist",
        "The state to resume from is not there: {name}.",
        "Nothing lies under that name.",
        "Check the path after --resume: it names a folder that ends in -state.",
    ),
    Cause(
        "state-past-the-end",
        r"max_train_steps should be greater than initial step[^:]*: (?P<total>\d+) vs (?P<step>\d+)",
        "The run to resume had already come to the end.",
        "It stands at step {step}, and {total} steps were asked for.",
        "Nothing is left to do; or ask for more epochs or steps.",
    ),
    Cause(
        "weights-missing",
        r"FileNotFoundError: No such file or directory: \"?(?P<name>[^\"]+\.safetensors)",
        "A weights file is not there: {name}.",
        "Nothing lies under that name.",
        "Check the path after --network_weights.",
    ),
    Cause(
        "file-missing",
        r"FileNotFoundError: .*?['\"](?P<name>[^'\"]+)['\"]",
        "A file is not there: {name}.",
        "Nothing lies under that name.",
        "Put it back, or correct the path.",
    ),
    Cause(
        "no-permission",
        r"PermissionError: .*?(?:['\"](?P<name>[^'\"]+)['\"]|$)",
        "A file or folder may not be used: {name}.",
        "The account has no right to read or write it.",
        "Change its permissions, or use another folder.",
    ),
    Cause(
        "cached-and-taught",
        r"T5XXL is trained, so cache_text_encoder_outputs|network for Text Encoder cannot be trained with caching",
        "A text encoder that is taught cannot be cached.",
        "What was read once stays as it was, and what is taught changes.",
        "Turn off cache_text_encoder_outputs, or teach the UNet only (network_train_unet_only).",
    ),
    Cause(
        "cached-and-changed",
        r"when caching latents, either color_aug or random_crop",
        "Cached pictures cannot go with changing colours or crops.",
        "What was encoded once stays as it was.",
        "Turn off cache_latents, or color_aug and random_crop.",
    ),
    Cause(
        "bucket-step",
        r"bucket_reso_steps is (?P<value>\d+)\. ?it must be divisible by (?P<step>\d+)",
        "A bucket step of {value} is refused.",
        "This script wants a multiple of {step}.",
        "Set bucket_reso_steps to 64.",
    ),
    Cause(
        "swap-too-many",
        r"Cannot swap more than (?P<most>[^.]+)\.",
        "More blocks are to be swapped than can be.",
        "Two of each kind stay on the card: at most {most}.",
        "Lower blocks_to_swap.",
    ),
    Cause(
        "swap-and-offload",
        r"blocks_to_swap is not supported with cpu_offload_checkpointing",
        "Blocks cannot be swapped and offloaded at once.",
        "The script refuses blocks_to_swap together with cpu_offload_checkpointing.",
        "Keep one of the two.",
    ),
    Cause(
        "fp8-precision",
        r"fp8_base requires mixed precision",
        "A base model in 8 bits needs half precision.",
        "fp8_base was asked for with mixed_precision = no.",
        "Set mixed_precision to bf16.",
    ),
    Cause(
        "full-half",
        r"(?P<name>full_(?:fp16|bf16)) requires mixed precision",
        "{name} needs the same mixed_precision.",
        "Training wholly in half precision was asked for beside another precision.",
        "Set mixed_precision to the same format, or remove {name}.",
    ),
    Cause(
        "part-missing",
        r"(?:load_clip_l|load_clip_g|load_t5xxl|load_ae|load_vae)[\s\S]{0,300}NoneType|argument 'filename': expected str, bytes or os\.PathLike object, not NoneType",
        "A part of the base model was not named.",
        "SD3.5 and FLUX consist of several files: text encoders, and for FLUX the autoencoder.",
        "Name them all: clip_l, t5xxl, and clip_g for SD3.5 or ae for FLUX.",
    ),
    Cause(
        "tokenizer-missing",
        # CLIP's and T5's, each without its table of words while the internet is not to be asked.
        r"TypeError: (?:expected str, bytes or os\.PathLike object, not NoneType|not a string$)",
        "The tokenizer of a text encoder is not there.",
        "The script looked for it on this computer only, and found no table of words: CLIP's for every model, T5's for SD3.5 and "
        "FLUX.",
        "Point tokenizer_cache_dir to a folder that holds it, or connect to the internet for the first start without "
        "HF_HUB_OFFLINE.",
    ),
    Cause(
        "cached-with-dropout",
        r"caching Text Encoder output, either|(?:text encoder|TE).{0,60}(?:cache|cach).{0,160}(?:shuffle|dropout)|is_text_encoder_output_cacheable",
        "Cached text outputs cannot go with these caption options.",
        "What was read once cannot change: no shuffling, no dropout and no training of the text encoder then.",
        "Turn off cache_text_encoder_outputs, or shuffle_caption, caption dropout and the text encoder's training.",
    ),
    Cause(
        "driver",
        r"no NVIDIA GPU|Torch not compiled with CUDA|CUDA driver version is insufficient|NVIDIA driver on your system is too old",
        "The graphics card cannot be used.",
        "PyTorch was built without CUDA or for another one, or the driver is too old for it.",
        "Update the driver, or install the PyTorch build that fits it.",
    ),
    Cause(
        "card-too-new",
        r"no kernel image is available for execution|sm_\d+ is not compatible",
        "This PyTorch does not know the graphics card.",
        "The card is newer, or much older, than the ones it was built for.",
        "Install a PyTorch build for it; cards of the RTX 50 series want 2.8 or later.",
    ),
    Cause(
        "wrong-type",
        r"TypeError: (?P<text>.+)",
        "A setting probably has the wrong type.",
        "Config files are not checked by the script: a number in quotation marks is taken as text and fails late "
        "({text}).",
        "Look for numbers that stand in quotation marks in the config file.",
    ),
)


def cause_of(text: str) -> Finding | None:
    """The known cause in an exception (`Kind: text`) or an error line; None when it is none of them."""
    for cause in CAUSES:
        found = re.search(cause.pattern, text, re.IGNORECASE | re.DOTALL)
        if found:
            told = {k: (v or "").strip() for k, v in found.groupdict().items()}
            why = cause.why.format(**told)
            if cause.code == "value-not-allowed" and not told["choices"]:
                why = "It has to be of another type."
            if cause.code == "config-syntax":
                told["place"] = told["place"] or "no line is told"
            return Finding(
                severity="block",
                code=cause.code,
                what=cause.what.format(**told),
                why=why,
                fix=cause.fix.format(**told),
            )
    return None


def other_failure(kind: str, text: str) -> Finding:
    """A failure that is not among the known ones, in the script's own words."""
    words = text.split(" / ")[0].strip() if text else ""  # English stands before the Japanese
    return Finding(
        severity="block",
        code="unknown-failure",
        what=f"The script stopped with an error: {kind}.",
        why=f"Its words: {words[:300]}" if words else "It gave no further words.",
        fix="Look at the lines above the error in the log; its last lines name the place.",
    )
