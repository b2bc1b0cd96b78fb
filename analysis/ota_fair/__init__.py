"""Fair weights over the air, arXiv 2501.03392: fairness against the mean, and against the noise of the air.

Run it with ``python -m analysis.ota_fair``; ``--quick`` takes two seeds and fewer rounds.
"""
