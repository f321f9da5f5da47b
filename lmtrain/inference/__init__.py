"""Using a trained model: generating, scoring, embedding."""
