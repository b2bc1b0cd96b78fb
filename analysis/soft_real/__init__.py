"""Why pairs by energy do, or do not, beat random pairs: SOFT (arXiv 2505.00333) on pre-trained models.

``python -m analysis.soft_real`` plays the grid on stories260k, a Llama of 260 thousand weights.
"""
