"""How much memory training takes: of the card when there is one, else of the process."""

from __future__ import annotations

import gc
import sys

import psutil
import torch


def now(device: torch.device) -> int:
    """Bytes in use: allocated by torch on the card, else resident in the process."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated())
    return int(psutil.Process().memory_info().rss)


def peak(device: torch.device) -> int:
    """The most bytes that were in use so far. On the card: what torch had reserved, since that is what has to fit."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved())
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # Linux counts in KiB, macOS in bytes (getrusage(2)).
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)


def release() -> None:
    """Give back what nothing refers to any more, also what torch keeps on the card for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
