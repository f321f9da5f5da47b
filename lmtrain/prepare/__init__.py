"""Raw text of any kind → a corpus folder, as a graph of Dask tasks; and checks of a finished corpus.

`folder.py` builds the graph: read and clean each block of each source, sort by hash, merge ranges of the hash, write.
The hash of a document alone decides whether the document is for training, validation or test, so the output depends
neither on the order of the sources nor on the scheduler. `sources.py` cuts files into blocks, `cleaning.py` has the
cleaning steps, `shuffling.py` assigns documents to train, valid and test, `near_duplicates.py` compares documents,
`joining.py` merges many small files into few, `tasks.py` holds the tasks, `graph.py` computes them, and `manifest.py`
describes the result. Apart from the graph: `corpus_check.py` and `corpus_scan.py` say what is wrong with a corpus and
what training on it costs (`cost.py`), `dictionary_counts.py` counts items, `download.py` fetches an archive.
"""
