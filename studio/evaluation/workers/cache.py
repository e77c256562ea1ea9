"""Features of pictures that were measured before, one small file a picture and network, so that nothing is measured twice.

<project>/cache/features/<key>.npz. A key is a hash over the picture's bytes, what was done to it, and the network: a picture
that changed has another key. What is damaged or gone is measured anew.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio import files

Arrays = dict[str, NDArray[np.float32]]


class FeatureCache:
    """The features of a project's pictures. new, known: how many were stored and how many were there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.new = self.known = 0

    @staticmethod
    def key(*parts: object) -> str:
        """The name of what these parts decide."""
        return files.fingerprint([str(p) for p in parts])

    def get(self, key: str) -> Arrays | None:
        """The arrays of a key; None when they are not there or not whole."""
        try:
            # Opened here: numpy leaves a file open that it cannot read.
            with (self.folder / f"{key}.npz").open("rb") as f, np.load(f, allow_pickle=False) as found:
                arrays = {name: np.asarray(found[name], dtype=np.float32) for name in found.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        self.known += 1
        return arrays

    def put(self, key: str, arrays: Mapping[str, NDArray[np.floating]]) -> None:
        """Store arrays under a key. A disk that refuses costs nothing but time later on."""
        self.new += 1
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            # No fsync, unlike what a person made: it can be made again, and there are hundreds.
            handle, name = tempfile.mkstemp(suffix=".part", dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as f:
                    plain: dict[str, Any] = {k: np.asarray(v, dtype=np.float32) for k, v in arrays.items()}
                    np.savez(f, **plain)
                os.replace(name, self.folder / f"{key}.npz")
            except OSError:
                Path(name).unlink(missing_ok=True)
