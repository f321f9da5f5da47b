#!/usr/bin/env python
"""`python scripts/download_billion.py` in a checkout; see lmtrain/cli/download_billion.py."""

import sys

from lmtrain.cli.download_billion import command

if __name__ == "__main__":
    sys.exit(command())
