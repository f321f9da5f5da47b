"""A trained model in use: it generates, scores and embeds, without Lightning.

All of it runs on `stepper.py`: one recurrent step at a time for a batch of sequences, with the weights laid out for
that. `generation.py` samples texts, `scoring.py` gives every item of a text its negative log-likelihood, and
`embeddings.py` takes hidden states at the ends of tokens, which `embedding_strings.py` finds in a text. `long_texts.py`
reads the pieces of a long text side by side, in threads that do not wait for each other (`single_threads.py`).
`vector_file.py` reads tokenized sentences and writes their vectors, and `text_input.py` is the text that a script is
given: a file, a URL or standard input.
"""
