"""What happened: spans, metrics, grants and rounds, and the run folder that holds them."""
