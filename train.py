"""Trains a character language model: python train.py --help."""

# fish completes for files in which it finds this: @hydra.main (see lmtrain/cli/train.py)

from lmtrain.cli.train import main

if __name__ == "__main__":
    main()
