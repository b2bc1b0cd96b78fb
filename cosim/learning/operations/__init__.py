"""The operations of a training, each registered where it is written; torch is imported by their bodies."""
