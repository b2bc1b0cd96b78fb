"""How long the search for the spectrum of a Hessian goes on; without torch."""

MOST_PRODUCTS = 50
"""Products of a Hessian with a vector for one spectrum (FedPepTAO, arXiv 2310.15080)."""
