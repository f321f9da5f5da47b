"""Trains character LSTM language models whose best-lm.pt Flair loads unchanged."""
