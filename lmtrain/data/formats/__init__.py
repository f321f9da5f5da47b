"""What files hold, known by their content, and the documents in them.

`registry.py` lists the readers and decides which one a file is for: it asks each, in an order, whether it recognises
the first bytes. A `Reader` (`reader.py`) gives the documents of a stream in pieces of bounded size, and tells a `Tally`
what it has passed over and why. `streams.py` decompresses and decodes, `encodings.py` guesses what encoding a text is
in, and `stores.py` is about remote files. `foreign.py` knows what is no text, and says how one makes text of it.
Training reads plain text only, and refuses other formats by what is recognised here; `prepare/` reads all of them.
"""
