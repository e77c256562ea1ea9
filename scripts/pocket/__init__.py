"""Builds `data/pocket`, the small embedded base model, and `data/sample`, the pictures to learn a style from.

`python -m scripts.pocket all --work DIR` rebuilds everything; each stage leaves a file in DIR and is skipped
when that file is already there, so an interrupted build goes on where it stopped.
"""
