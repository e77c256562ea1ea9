"""`python -m studio` and the `lora-studio` command."""

from __future__ import annotations

import sys

from studio.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
