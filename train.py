"""Trains a character language model: python train.py --help."""

from lmtrain.command_line import main

if __name__ == "__main__":
    main()
