"""Ferret: encoding and rebuilding an update of all parameters against the backward pass it comes from."""

from bench.ratio import Ratio
from bench.soft import _least
from cosim.learning.base.embedded import EmbeddedBase
from cosim.learning.codec import Layout
from cosim.learning.update.ferret import Ferret, block_sizes
from cosim.rng import stream

PER_BLOCK, BATCH, LENGTH = 2048, 8, 64
