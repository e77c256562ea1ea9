"""Beside the curve of a run: learning rates, what the computer has left, and running it again."""

import streamlit as st

from pages.parts.nav import link
from studio import compare
from studio.files import human_memory, human_size
from studio.jobs.job import Job
from studio.machine import usage
from studio.project import Project
from studio.replicate.costs import money
from studio.training.progress import Metrics
from studio.training.runs import Run

RATES = {"unet": "learning rate", "te": "text encoder", "transformer": "learning rate"}


@st.cache_data(ttl=3.0, show_spinner=False)
def _usage(folder: str) -> tuple[str, str, str]:
    """Memory, graphics memory and disk in words; asked for every few seconds, however many pages are open."""
    from pathlib import Path

    now = usage(Path(folder))
    card = f"{human_memory(now.vram[0])} of {human_memory(now.vram[1])} graphics memory" if now.vram else ""
    return (
        card,
        f"{human_memory(now.ram[0])} of {human_memory(now.ram[1])} memory",
        f"{human_size(now.disk_free)} free on the disk",
    )


def rate_words(metrics: Metrics) -> str:
    """The newest learning rates that are known; "" before any."""
    told = next((r for r in reversed(metrics.rates[-500:]) if r), {})
    parts = [f"{_rate_name(part)} {rate:.2g}" for part, rate in told.items()]
    return ", ".join(parts)


def _rate_name(part: str) -> str:
    """A learning rate's name in words; several text encoders are numbered."""
    name, _, which = part.partition(" ")
    return f"{RATES.get(name, name)} {which}".strip()


def system_line(run: Run, metrics: Metrics) -> None:
    """Learning rate, graphics memory, memory and disk in one line, while it trains."""
    words = [w for w in (rate_words(metrics), *_usage(str(run.folder))) if w]
    line = " · ".join(words)
    st.caption(f":material/monitor_heart: {line[:1].upper()}{line[1:]}")


def run_again(project: Project, run: Run) -> None:
    """Bring the settings of a run back; first, what is different now."""
    with st.expander("Run it again", icon=":material/replay:"):
        found = compare.since(run, project)
        if found:
            st.markdown("Different now, and it will stay so:")
            st.table(
                [{"What": d.what, "Then": d.before, "Now": d.after} for d in found],
                border="horizontal",
                hide_index=True,
            )
        else:
            st.markdown("Nothing is different: same pictures, captions and versions.")
        if st.button(
            "Bring back its settings", key=f"again_{run.id}", icon=":material/settings_backup_restore:"
        ):
            compare.bring_back(run, project)
            st.session_state["run_next_view"] = "prepare"
            st.rerun()
        link("config", "Look at the settings of the next run", icon=":material/tune:")


def cost_so_far(job: Job) -> str:
    """What a run on rented computers has cost; "" for one on this computer."""
    told = job.progress.extra.get("cost_words")
    ended = job.result if not told else None
    whole = ended.get("cost_dollars") if isinstance(ended, dict) else None
    if isinstance(whole, int | float):
        told = money(whole)
    return str(told).replace("$", "\\$") if told else ""
