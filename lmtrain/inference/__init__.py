"""Uses a trained model: generates, scores and embeds, without Lightning.

Everything runs on `stepper.py`, which computes one recurrent step at a time for a batch of sequences, with weights laid
out for that. `generation.py` samples texts, `scoring.py` gives every item of a text its negative log-likelihood, and
`embeddings.py` takes hidden states at the ends of tokens, which `embedding_strings.py` finds in a text. `long_texts.py`
reads the pieces of a long text side by side, in threads that do not wait for each other (`single_threads.py`).
`vector_file.py` reads tokenized sentences and writes their vectors, and `text_input.py` reads the text that a command
gets: a file, a URL or standard input.
"""
