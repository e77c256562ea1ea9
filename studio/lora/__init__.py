"""Tools for LoRA files of any origin: look inside, check, resize, merge, convert, publish."""
