"""Pruning and personalisation, arXiv 2309.01816: what a round takes, and what is learned by when.

Run it with ``python -m analysis.pruned_personal``; ``--quick`` takes two seeds, five drops and half the time.
"""
