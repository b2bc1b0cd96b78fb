"""FedsLLM's comparisons, drawn from this project's own runs: ``python -m analysis.fedsllm``.

Delays of whole trainings are rounds to target, as measured, times the closed
form of a round, which the event clock reproduces to the nanosecond; so hundreds
of cells are compared without playing each. Losses are those of real trainings.
"""
