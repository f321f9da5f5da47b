"""Raw text of any kind → a corpus folder, as a graph of Dask tasks; and checks of a corpus that is there.

`folder.py` is the graph: read and clean each block of each source, sort by hash, merge by ranges of the hash, write.
The hash of a document decides whether it trains, validates or tests, so the output does not depend on order or
scheduler. `sources.py` cuts files into blocks, `cleaning.py` has the steps, `shuffling.py` deals documents to parts,
`near_duplicates.py` compares them, `joining.py` makes few files of many, `tasks.py` are the tasks, `graph.py` computes
them, `manifest.py` says what came out. Apart from that: `corpus_check.py` and `corpus_scan.py` say what is wrong with a
corpus and what training on it would cost (`cost.py`), `dictionary_counts.py` counts items, `download.py` fetches.
"""
