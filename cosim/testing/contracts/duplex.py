"""What every duplex keeps, run over each part's examples."""

from itertools import pairwise

import numpy as np
import pytest

from cosim.radio.duplex import Duplex
from cosim.testing.selection import parts_of

EXAMPLES = parts_of(Duplex)


@pytest.mark.parametrize("part", EXAMPLES)
def test_both_directions_have_time_and_never_the_same(part):
    ends_ns = np.arange(0, 10**8, 777_777).tolist()
    for begin_ns, end_ns in pairwise(ends_ns):
        up_ns, down_ns = (part.open_ns(begin_ns, end_ns, is_uplink=up) for up in (True, False))
        assert 0 <= up_ns <= end_ns - begin_ns
        if part.slots(is_uplink=True) is not None:
            assert 0 <= up_ns + down_ns <= end_ns - begin_ns
    for up in (True, False):
        share = part.open_ns(0, 10**12, is_uplink=up) / 10**12
        assert part.share(is_uplink=up) == pytest.approx(share, rel=1e-3)
        assert share > 0.0
