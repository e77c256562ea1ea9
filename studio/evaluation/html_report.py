"""The review of a grid as one HTML file that holds everything, pictures included; nothing is fetched when it is opened."""

from __future__ import annotations

import html
from pathlib import Path

from studio import files
from studio.errors import InputError
from studio.evaluation.grid import Grid
from studio.evaluation.report import write_report
from studio.evaluation.review import FAULTS
from studio.evaluation.spec import FAMILY_WORDS, Cell
from studio.evaluation.thumbs import small_url

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#e3e0da, #3a3a3f); --quiet: light-dark(#6b6862, #a5a29b); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1400px; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: 6px; vertical-align: top; text-align: left; border-bottom: 1px solid var(--line); }
.cells { overflow-x: auto; } .cells img { width: 150px; height: auto; border-radius: 6px; display: block; }
small, .quiet { color: var(--quiet); } th { position: sticky; top: 0; background: Canvas; }
"""


def html_text(grid: Grid) -> str:
    """The report as HTML. Pictures go in as small copies (at most 320 px)."""
    verdict, review = grid.verdict, grid.review
    title = f"Evaluation: {grid.project.intent.name}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body><h1>{_text(title)}</h1>",
    ]
    if verdict is not None:
        parts.append(f"<h2>{_text(verdict.headline)}</h2><ul>")
        parts += [f"<li>{_text(r)}</li>" for r in verdict.reasons]
        parts.append("</ul>")
    if review.verdict_note:
        parts.append(f"<p>{_text(review.verdict_note)}</p>")
    parts += _tables(grid)
    spec = grid.spec
    parts.append(
        f'<p class="quiet">Base model {_text(spec.base_model)}, trigger word {_text(spec.trigger or "none")}, renderer {_text(spec.renderer)}, '
        f"{spec.steps} steps, guidance {spec.guidance:g}, sampler {_text(spec.sampler)}, {spec.width} × {spec.height}, drawn {_text(spec.created[:10])}.</p>"
    )
    parts.append("</body></html>\n")
    return "".join(parts)


def write_html(grid: Grid, target: Path) -> Path:
    """Write the HTML report to `target`; its path."""
    files.write_text(target, html_text(grid))
    return target


def _tables(grid: Grid) -> list[str]:
    spec, given = grid.spec, grid.review.all()
    placed = {(c.checkpoint, c.seed, c.prompt.id, c.weight): c for c in grid.cells()}
    parts = []
    for lora in spec.lora_files:
        for seed in spec.seeds:
            parts.append(
                f'<h3>{_text(lora.label)}, seed {seed}</h3><div class="cells"><table><tr><th>Prompt</th>'
            )
            parts += [f"<th>{w:g}{' <small>no LoRA</small>' if w == 0 else ''}</th>" for w in spec.weights]
            parts.append("</tr>")
            for prompt in spec.prompts:
                parts.append(
                    f"<tr><td>{_text(prompt.text)}<br><small>{_text(FAMILY_WORDS[prompt.family])}</small></td>"
                )
                for weight in spec.weights:
                    cell = placed[lora.label, seed, prompt.id, weight]
                    said = given.get(cell.hash)
                    words = [f"{said.rating} of 5"] if said and said.rating else []
                    words += [FAULTS[t] for t in said.tags] if said else []
                    words += [said.note] if said and said.note else []
                    parts.append(f"<td>{_picture(grid, cell)}<small>{_text('; '.join(words))}</small></td>")
                parts.append("</tr>")
            parts.append("</table></div>")
    return parts


def _picture(grid: Grid, cell: Cell) -> str:
    if cell.path is None:
        return f"<span class=quiet>not drawn{': ' + _text(cell.error) if cell.error else ''}</span>"
    return f'<img loading="lazy" alt="{_text(cell.prompt.text)} at {cell.weight:g}" src="{small_url(grid.project, cell.path)}">'


def _text(words: str) -> str:
    return html.escape(words, quote=True)


def export(grid: Grid, target: Path) -> Path:
    """Write the review to a file; its ending says how: .html (holds the pictures), .md, or .png (the contact sheet).

    Raises InputError for another ending, for a place that is taken, and for a sheet that was not made yet.
    """
    target = target.expanduser().absolute()
    kind = target.suffix.lower()
    if kind not in (".html", ".htm", ".md", ".png"):
        raise InputError(
            f"{target.name} has an ending that no report has.",
            "The ending says what is written.",
            "Use .html, .md or .png.",
        )
    if target.exists():
        raise InputError(
            f"{target} is there already.", "The studio overwrites nothing.", "Choose another name."
        )
    if kind == ".png":
        if grid.sheet is None:
            raise InputError(
                "There is no contact sheet yet.",
                "It is made when the grid is finished.",
                "Let the grid finish first.",
            )
        files.copy_atomic(grid.sheet, target)
        return target
    return write_report(grid, target) if kind == ".md" else write_html(grid, target)
