#!/usr/bin/env python
"""`python scripts/prepare_corpus.py` in a checkout; see lmtrain/cli/prepare_corpus.py."""

import sys

from lmtrain.cli.prepare_corpus import command

if __name__ == "__main__":
    sys.exit(command())
