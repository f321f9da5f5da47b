#!/usr/bin/env python
"""`python scripts/check_corpus.py` in a checkout; see lmtrain/cli/check_corpus.py."""

import sys

from lmtrain.cli.check_corpus import command

if __name__ == "__main__":
    sys.exit(command())
