"""LoRA Studio: from a folder of pictures to a registered LoRA."""

__version__ = "0.1.0"
