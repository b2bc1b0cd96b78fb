"""The papers' claims on real language models: ``python -m analysis.real_model``.

A file of this package with ``JOBS`` adds experiments; a job is a study, a
calibration or runs in a folder, goes on where it was stopped, and draws its own
figure.
"""
