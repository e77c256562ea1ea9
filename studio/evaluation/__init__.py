"""Evaluation: grids of pictures over LoRA weights, measurements, the sweet spot, and the review."""
