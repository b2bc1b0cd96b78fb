"""The air of one cell: where clients are, what of their power arrives, and the rate that allows."""
