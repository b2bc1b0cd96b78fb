"""Event-driven co-simulation of split federated LoRA training and an OFDMA cell, on one clock."""
