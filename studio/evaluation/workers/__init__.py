"""What runs as a grid's job; may import torch and diffusers."""
