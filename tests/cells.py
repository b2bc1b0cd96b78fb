"""Random barriers, and the Hypothesis strategies that draw cells and barriers."""

import numpy as np
from hypothesis import strategies as st

from cosim.control.closed_form import Phase
from cosim.control.state import CellState
from cosim.testing.strategies import random_cell


def random_phase(
    seed: int, num_clients: int = 5, num_subchannels: int = 20, decades: float = 3.0, *, is_flat: bool = False
) -> Phase:
    """Return a barrier whose gains span some decades and whose limits and loads differ."""
    rng = np.random.default_rng(seed)
    shape = (num_clients, 1 if is_flat else num_subchannels)
    limits = rng.uniform(0.05, 0.4, num_clients)
    return Phase(
        link="main_uplink",
        compute_s=rng.uniform(0.0, 2.0, num_clients),
        bits=rng.uniform(0.5, 2.0, num_clients) * 1e7,
        gains=np.broadcast_to(10.0 ** (7.0 + decades * rng.random(shape)), (num_clients, num_subchannels)),
        bandwidths_hz=rng.uniform(0.5, 1.5, num_subchannels) * 50e3,
        max_tx_power_w=limits,
        max_total_tx_power_w=float(rng.choice([0.3, 0.7, 1.1, np.inf]) * limits.sum()),
    )


@st.composite
def cells(draw: st.DrawFn, max_clients: int = 4, max_subchannels: int = 9) -> CellState:
    """Cells of a few clients, flat or frequency-selective, with and without downlinks and sum limits."""
    num_clients = draw(st.integers(1, max_clients))
    return random_cell(
        draw(st.integers(0, 2**31)),
        num_clients,
        draw(st.integers(num_clients, max_subchannels)),
        is_flat=draw(st.booleans()),
        has_even_widths=draw(st.booleans()),
        has_downlinks=draw(st.booleans()),
        has_sum_limit=draw(st.booleans()),
        num_layers=draw(st.integers(2, 6)),
    )


@st.composite
def phases(draw: st.DrawFn, max_clients: int = 6, max_subchannels: int = 20) -> Phase:
    """Barriers over one to four decades of gain."""
    num_clients = draw(st.integers(1, max_clients))
    return random_phase(
        draw(st.integers(0, 2**31)),
        num_clients,
        draw(st.integers(num_clients, max_subchannels)),
        draw(st.floats(0.0, 4.0)),
        is_flat=draw(st.booleans()),
    )
