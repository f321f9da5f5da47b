"""Trains character LSTM language models whose best-lm.pt Flair loads unchanged."""

from lmtrain.program.starting import watch_if_command

watch_if_command()
