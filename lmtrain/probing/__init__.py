"""Measures how well tags are predicted from frozen embeddings, compared with baselines that need no model.

`tagged_text.py` reads sentences with tags and `material.py` draws those for learning and for testing. `features.py`
turns tokens into features: vectors of a model, or the n-grams of the baselines. `linear.py` learns a linear classifier,
`entities.py` counts whole entities (F1), and `flair_tagger.py` trains Flair's own tagger instead. `experiment.py`
repeats this for several numbers of sentences, and `results.py` makes the table.
"""
