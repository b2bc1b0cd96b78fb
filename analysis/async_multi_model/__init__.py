"""Several models trained by one population, arXiv 2305.13503: task loss against simulated seconds and joules.

Run it with ``python -m analysis.async_multi_model``; ``--quick`` takes two seeds and less simulated time.
"""
