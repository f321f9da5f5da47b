"""What embeddings are worth: a linear probe over frozen vectors, beside baselines that need no model."""
