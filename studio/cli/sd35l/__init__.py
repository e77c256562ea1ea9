"""`sd35l-trainer`: training LoRAs for Stable Diffusion 3.5 Large (and FLUX) on Replicate from a terminal."""
