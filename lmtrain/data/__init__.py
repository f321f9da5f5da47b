"""Text → ids → windows, in plain NumPy and torch, without Lightning, Hydra or a model.

- `corpus.py` finds the files of a corpus folder and reads their text as documents; `formats/` recognises files that are
  no plain text.
- `dictionary.py` gives every item (a character, or a word) its id; `<unk>`, where there is one, has 0.
- `id_cache.py` writes a file's ids and document ends, to be memory-mapped. `cache/` decides what must be encoded.
- `splits.py` cuts encoded files into splits of bounded size, and says in which order an epoch takes them.
- `stream.py` gives a split's ids as the model reads them in an epoch: documents shuffled, case changed, or backward.
- `windows.py` lays a stream out in B lanes, and cuts all of them every T items: that is a window, `(T, B)`.

From splits on, everything is a function of (seed, epoch, split), so every rank and every resumed run computes the same
text.
"""
