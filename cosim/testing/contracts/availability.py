"""What every availability keeps, run over each part's examples."""

from itertools import islice, pairwise

import pytest

from cosim.compute.availability import Availability
from cosim.rng import stream
from cosim.testing.selection import parts_of


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Be where the file is that examples name."""
    (tmp_path / "away.csv").write_text("client,away_s,back_s\n0,1,2\n0,3,4\n2,0,\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("part", parts_of(Availability))
def test_times_away_follow_each_other_and_depend_on_client_and_chance_alone(part):
    part.check(3)
    for client in range(3):
        chance = stream(1, "availability", client)
        times = list(islice(part.times_away(client, chance), 200))
        assert times == list(islice(part.times_away(client, chance), 200))
        assert all(0 <= one.leaves_ns < one.back_ns for one in times)
        assert all(type(at) is int for one in times for at in one)
        assert all(one.back_ns < after.leaves_ns for one, after in pairwise(times))
    assert part.told in part.note
