"""Recognises the format of a file by its content, and reads the documents in it.

`registry.py` lists the readers and asks each, in order, whether it recognises the first bytes of a file. A `Reader`
(`reader.py`) gives the documents of a stream in pieces of bounded size, and counts in a `Tally` what it left out and
why. `streams.py` decompresses and decodes, `encodings.py` handles other encodings than UTF-8, and `stores.py` opens
remote files. `foreign.py` recognises files that are not read, and names a command that makes text of them. Training
reads plain text only and refuses the other formats; `prepare/` reads all of them.
"""
