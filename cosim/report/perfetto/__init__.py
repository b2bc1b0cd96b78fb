"""A run as a Perfetto trace of simulated time; look at it on ui.perfetto.dev.

A process for every actor, a lane for every device and link, arrows for what travels,
counters of rate, power, SNR, queues and losses, and the critical path in a lane of its own.

Source
------
Perfetto, "Writing TrackEvent Protos Synthetically".
"""

from cosim.report.perfetto.trace import write_trace as write_trace
