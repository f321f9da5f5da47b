"""Keeps the counts and ids of texts on disk, so that no text is read twice.

`TextCache` (`text_cache.py`) finds or makes the counts and the ids of files. An entry's name is a hash of the text's
bytes and of all else that determines it, so the same text is found again in another place and under another name.
`turns.py` decides which of several processes makes what is missing while the others wait, `pieces.py` cuts large files
so that several processes can read them, and `checked.py` remembers which entries were found undamaged.
`stamps.py` tells whether a file may have changed since it was read, and `manifest.py` whether a prepared corpus has.
A cache may be deleted at any time: it is made again.
"""
