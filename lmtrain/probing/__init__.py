"""What embeddings are worth: tags are predicted from frozen vectors, beside baselines that need no model.

`tagged_text.py` reads sentences with tags and `material.py` draws the ones to learn and to test. `features.py` turns
tokens into vectors: of a model, or of what a model must beat. `linear.py` learns a linear classifier, `entities.py`
counts whole entities (F1), and `flair_tagger.py` trains Flair's own tagger instead. `experiment.py` makes a curve of it
over numbers of sentences, and `results.py` its table.
"""
