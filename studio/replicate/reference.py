"""The configuration reference of `sd35l-trainer` in Markdown, made from the catalogue: `python -m studio.replicate.reference`.

Prints docs/replicate.md with its table brought up to date; a test compares.
"""

from __future__ import annotations

from pathlib import Path

from studio.replicate.config import SECTIONS
from studio.replicate.trainers import catalogue

BEGIN, END = "<!-- made from data/replicate.yaml -->", "<!-- end -->"


def table() -> str:
    """One row for each setting: where it stands, what it takes, what we start from, what it does."""
    known = catalogue()
    sd35, flux = known.trainer("sd35-large"), known.trainer("flux-dev")
    lines = ["| in the file | flag | takes | SD3.5 | FLUX | what it does |", "|---|---|---|---|---|---|"]
    for section, names in SECTIONS.items():
        for name, inner in names.items():
            p = known.parameters[inner]
            starts = [
                _start(t.defaults.get(inner)) if inner in t.names else "not there" for t in (sd35, flux)
            ]
            lines.append(
                f"| `{section}.{name}` | `--{inner.replace('_', '-')}` | {p.range_words or p.kind} | {starts[0]} | {starts[1]} "
                f"| {p.help} |"
            )
    lines += ["", "| preset | fills | for whom |", "|---|---|---|"]
    for name, preset in known.presets.items():
        values = ", ".join(f"{k} {v}" for k, v in preset.values.items())
        lines.append(f"| `{name}` | {values} | {preset.summary} |")
    prices = ", ".join(f"{n.upper()} ${p:.6f}" for n, p in known.prices.items())
    lines += [
        "",
        f"Prices behind the forecasts, dollars a second, read {known.prices_read} at {known.prices_from}: {prices}.",
    ]
    return "\n".join(lines)


def _start(value: object) -> str:
    return "-" if value in (None, "") else str(value).lower() if isinstance(value, bool) else str(value)


def renewed(text: str) -> str:
    """A page with the part between its marks made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    page = Path(__file__).resolve().parents[2] / "docs" / "replicate.md"
    page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
