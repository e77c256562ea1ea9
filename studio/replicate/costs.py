"""What a training costs: a forecast as a range, and what was spent so far. Dollars; time by Replicate's clock."""

from __future__ import annotations

from dataclasses import dataclass

from studio.files import human_time
from studio.replicate.trainers import Trainer, catalogue

# Pictures of a batch share some of a step's work: four take two to three and a half times as long as one.
_BATCH_LOW, _BATCH_HIGH = 0.35, 0.85
# Pictures of 768 pixels are what the seconds of the catalogue are for.
_REFERENCE_PIXELS = 768**2


@dataclass(frozen=True)
class Forecast:
    """low, high: dollars; seconds_low, seconds_high: of running time; price: dollars a second, read at `price_read`."""

    low: float
    high: float
    seconds_low: float
    seconds_high: float
    price: float
    price_read: str

    @property
    def words(self) -> str:
        """Such as "about $1.50 to $4.20 (16 min to 46 min; prices of 2026-03)"."""
        return (
            f"about {money(self.low)} to {money(self.high)} ({human_time(self.seconds_low)} to "
            f"{human_time(self.seconds_high)}; prices of {self.price_read})"
        )


def money(amount: float) -> str:
    """Dollars, to the cent."""
    return f"${amount:.2f}"


def sizes(resolution: str) -> list[int]:
    """The pixels of "768,1024"; ValueError for what is not such a list."""
    return [int(part) for part in str(resolution).split(",")]


def price_of(model: str) -> float:
    """Dollars a second of the trainer "owner/name"; the dearest price for one that the studio does not know."""
    known = catalogue()
    trainer = next((t for t in known.trainers if t.model == model), None)
    return known.price(trainer) if trainer else max(known.prices.values())


def forecast(trainer: Trainer, steps: int, batch_size: int, resolution: str) -> Forecast:
    """Time and cost of a training before it starts. The figures behind it are known only roughly, so it is a range."""
    try:
        found = sizes(resolution)
        pixels = sum(s * s for s in found) / len(found) / _REFERENCE_PIXELS
    except ValueError:
        pixels = 1.0
    scale = max(0.4, pixels)
    low = trainer.seconds_to_start[0] + steps * trainer.seconds_per_step[0] * scale * (
        1 + _BATCH_LOW * (batch_size - 1)
    )
    high = trainer.seconds_to_start[1] + steps * trainer.seconds_per_step[1] * scale * (
        1 + _BATCH_HIGH * (batch_size - 1)
    )
    known = catalogue()
    price = known.price(trainer)
    return Forecast(low * price, high * price, low, high, price, known.prices_read)
