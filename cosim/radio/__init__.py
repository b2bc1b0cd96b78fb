"""The air of one cell: where clients stand, what of their power arrives, and the rate that allows."""
