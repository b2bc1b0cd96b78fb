"""LoRA-FAIR, arXiv 2411.14961: bias of averaged factors, its correction, and what is learned.

Run it with ``python -m analysis.lora_fair``; ``--quick`` takes two seeds and fewer rounds.
"""
