"""What a run leaves: its folder, curves, report, model card, and runs side by side."""
