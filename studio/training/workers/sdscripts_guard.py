"""Runs a script of sd-scripts inside of its own environment, and ends with the studio's worker.

Its Python need not know the studio: standard library only, and nothing imported from here. The standard input is a pipe
that only the worker holds. When it closes, the worker is gone, however it went, and so this process ends too: nothing
trains on unseen. `accelerate launch` hands its standard input on.
"""

import os
import runpy
import sys
import threading


def _end_with_the_worker() -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    os._exit(143)


def main() -> None:
    """Arguments: the script, then its own."""
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
