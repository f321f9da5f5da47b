#!/usr/bin/env python
"""`python scripts/embed.py` in a checkout; see lmtrain/cli/embed.py."""

import sys

from lmtrain.cli.embed import command

if __name__ == "__main__":
    sys.exit(command())
