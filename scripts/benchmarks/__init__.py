"""The parts of scripts/benchmark.py: each runs lmtrain, real Flair and the bare limit in turn."""
