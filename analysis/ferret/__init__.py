"""Ferret, arXiv 2409.06277: every parameter tuned over few coordinates, beside full and LoRA FedAvg.

Run it with ``python -m analysis.ferret``; ``--quick`` takes two seeds and 8 rounds.
"""
