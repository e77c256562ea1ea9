"""`python -m studio.cli.sd35l`, the same as `sd35l-trainer`."""

import sys

from studio.cli.sd35l.app import main

if __name__ == "__main__":
    sys.exit(main())
