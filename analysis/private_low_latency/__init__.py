"""Private low-latency learning, arXiv 2106.13039: delays and regret of a bandit, and private learning on it.

Run it with ``python -m analysis.private_low_latency``; ``--quick`` takes two seeds and fewer rounds.
"""
