"""SLoRA, arXiv 2308.06522: sparse training first, then adapters that take over, beside its baselines.

Run it with ``python -m analysis.slora``; ``--quick`` takes two seeds and fewer rounds.
"""
