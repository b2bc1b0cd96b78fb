"""Asynchronous training of several models on one population, arXiv 2305.13503: loss against seconds and joules.

Run it with ``python -m analysis.async_multi_model``; ``--quick`` takes two seeds and less simulated time.
"""
