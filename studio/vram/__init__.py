"""How much memory a training takes, before it runs: a sum of terms, each with where its figure comes from.

families     sizes of the base models, what is known of their activations, and how wide the error is
conditions   what decides the memory of one run, from the settings
model        the terms, the phases, and the sum
refusals     combinations that cost more than they save, or that the engines refuse
"""

from studio.vram.conditions import Conditions, conditions
from studio.vram.model import GIB, MARGIN, Forecast, forecast
from studio.vram.refusals import refusals

__all__ = ["GIB", "MARGIN", "Conditions", "Forecast", "conditions", "forecast", "refusals"]
