"""What a model file is, read from its header alone: nothing is loaded, nothing is guessed from a name.

header.py     the table of contents of a .safetensors file, and why a file is none
kinds.py      what the names and shapes in it say: family, prediction, LoRA, parts of a model
checking.py   whether a file is what it should be: a base model of a family, or one of the parts of a bundle
"""
