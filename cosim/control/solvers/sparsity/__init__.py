"""How much of its adapter each client sends, by when, over how much bandwidth: TSFA's second stage.

Pure functions over plain arrays, without links or snapshots; the allocators
``tsfa``, ``fixed_ratio``, ``equal_bandwidth`` and ``round_deadline`` are made of them.
"""
