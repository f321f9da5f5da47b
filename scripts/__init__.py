"""The commands: `python scripts/NAME.py` in a checkout, `lmtrain-NAME` where lmtrain is installed."""
