"""The tensor clock: one recorded order of spans, evaluated for many channels at once.

Where the order of events cannot depend on times (barriers, grants that stay), or can be worked
out by sorting arrivals (queues in order of arrival), the event kernel need not be played for
every channel: a span ends at the latest end of those it waits for, plus what it takes. The
:class:`~cosim.tensor.clock.TensorClock` plays the event kernel once, keeps the graph of the
spans, and evaluates it for any number of channels side by side, in integer nanoseconds,
equal to the event kernel to the last one. What it cannot promise it refuses, with the setting.
"""

from typing import Literal

EngineName = Literal["auto", "events", "tensor"]
"""Who finds the times of a run: the event kernel, or the tensor clock."""
