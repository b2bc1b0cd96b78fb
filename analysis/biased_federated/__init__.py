"""Biased weights over the air, arXiv 2503.06078: the front between bias and noise, and what is learned on it.

Run it with ``python -m analysis.biased_federated``; ``--quick`` takes two seeds and fewer places.
"""
