"""What every trace keeps, run over each part's examples."""

import numpy as np
import pytest

from cosim.parts import family
from cosim.radio.trace import Trace
from cosim.testing.selection import parts_of

NOISE_W = 1e-13
MEAN = np.array([1e-9, 2e-9, 1e-9, 1e-9])


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Be where the file is that examples name."""
    columns = {part.column for part in family(Trace).values()}
    lines = [f"time_s,client,link,{','.join(columns)}"]
    lines += [f"{at},0,all{f',{10 + 100 * at:g}' * len(columns)}" for at in (0.0, 0.1, 0.2)]
    (tmp_path / "trace.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("part", parts_of(Trace))
def test_values_are_those_of_the_file_and_gains_follow_them_alone(part):
    time_ns = np.arange(4) * part.block_ns
    values = part.values(0, "main_uplink", time_ns)
    np.testing.assert_array_equal(values[:3], [10.0, 20.0, 30.0])
    assert values[3] == {"wrap": 10.0, "hold": 30.0}[part.at_end]
    np.testing.assert_array_equal(part.values(0, "main_uplink", time_ns[2:]), values[2:])
    gains = part.gains(values, MEAN, NOISE_W)
    assert gains.shape == (4,)
    assert (gains > 0.0).all()
    np.testing.assert_array_equal(part.gains(values[1:], MEAN[1:], NOISE_W), gains[1:])
    assert part.gains(np.array([np.nan]), MEAN[:1], NOISE_W)[0] == (MEAN[0] if part.gives == "rates" else 0.0)
