"""The reflecting surface of arXiv 2008.12938 against no surface, random phases and a model-free search.

Run it with ``python -m analysis.reflecting_surface``; ``--quick`` takes two seeds and fewer points.
"""
