"""How a run's state and its time are written."""

from datetime import datetime

STATE_LOOK = {
    "finished": ("green", ":material/check_circle:"),
    "failed": ("red", ":material/error:"),
    "stopped": ("orange", ":material/stop_circle:"),
    "interrupted": ("orange", ":material/power_off:"),
}


def day(iso: str) -> str:
    """A time stamp as people write it, in this computer's time zone."""
    try:
        return datetime.fromisoformat(iso).astimezone().strftime("%d %b %Y, %H:%M")
    except ValueError:
        return iso
