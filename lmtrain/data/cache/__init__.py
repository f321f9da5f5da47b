"""So that no text is read twice: counts and ids of a text are kept on disk, under names that its bytes determine.

`TextCache` (`text_cache.py`) finds or makes the counts and the ids of files. An entry's name is a hash of the text's
bytes and of all else that determines it, so the same text is found again at another place and under another name.
`turns.py` decides which of several processes makes what is missing while the others wait, `pieces.py` cuts large files
so that several processes can read them, and `checked.py` remembers which entries were found whole.
`stamps.py` says whether a file can have changed since it was read, and `manifest.py` whether a prepared corpus is still
what was prepared. A cache can be deleted at any time: it is made again.
"""
