"""One run, from a `Config` to results.json.

`train.py` takes a run from its beginning to its end. `text.py` prepares the corpus and the dictionary, `run.py` makes
the objects of a fit by name, `attempts.py` goes back to the last checkpoint after a divergence, and `finish.py` tests
the best weights and reports. The objects are:

- `datamodule.py` serves windows; its state is the position (epoch, windows done);
- `module.py` trains on one: forward, loss, detach the hidden state and carry it on (truncated BPTT);
- `callbacks/` act around the steps, `loggers/` write the figures;
- `lightning_internals/` puts the loop over windows into Lightning's Trainer, and alone uses its private names.

A checkpoint means "n windows are done"; the text, its order and dropout are derived from the seed and that position.
"""
