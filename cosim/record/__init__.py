"""What happened: spans, metrics and grants, and the run folder that holds them."""
