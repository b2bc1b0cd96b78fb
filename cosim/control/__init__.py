"""Who gets what of the air, and how the work is done: stages, knobs and reports in, decisions out.

``allocators`` are the parts, ``solvers`` what they compute with, ``proving`` what shows how good a
decision could be at best; ``decisions`` asks an allocator during a run.
"""
