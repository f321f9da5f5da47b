"""Trains a character language model: python train.py --help."""

# fish completes for files in which it finds this: @hydra.main (see lmtrain/cli/command_line.py)

from lmtrain.cli.command_line import main

if __name__ == "__main__":
    main()
