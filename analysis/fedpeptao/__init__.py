"""FedPepTAO, arXiv 2310.15080: prefixes of scored blocks shared, and a server with momentum and control.

Run it with ``python -m analysis.fedpeptao``; ``--quick`` takes two seeds and 8 rounds.
"""
