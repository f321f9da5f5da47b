"""Trains a character language model: python train.py --help."""

# fish completes for files in which it finds this: @hydra.main (see lmtrain/command_line.py)

from lmtrain.command_line import main

if __name__ == "__main__":
    main()
