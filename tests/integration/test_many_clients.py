"""How much is kept and drawn as clients grow in number: counts, never times."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cosim.graph.executor import TimingOnly
from cosim.radio import gains as gains_module
from cosim.radio.channel import Channel
from cosim.radio.settings import Radio
from cosim.record.log import SpanLog
from cosim.record.tables import causes_table, grant_rows_table, grants_table, spans_table, with_parents
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load

SCALE = Path(__file__).parents[2] / "bench" / "scale.toml"
NUM_ROUNDS = 3


@pytest.fixture(scope="module", params=[10, 20])
def world(request):
    changes = {"clients.count": request.param, "scheme.num_rounds": NUM_ROUNDS}
    prepared = prepare(change(load(SCALE), {**changes, "data.source.num_train": 200}))
    world = prepared.world(lambda _rank: TimingOnly())
    world.play(prepared.scenario.scheme.run(world))
    return world


def test_a_round_keeps_causes_and_grants_in_proportion_to_its_clients(world):
    spans, grants, count = world.log.spans, world.log.grants, world.num_clients
    spans.settle()
    assert len(grants.rows) == 2 * count * NUM_ROUNDS  # a row a transfer, whole band and all
    per_round = 6 * count  # a barrier's and the average's, and up to two of each upload and download
    assert len(spans.causes) <= per_round * NUM_ROUNDS
    assert len(spans.parents) == count**2 * (NUM_ROUNDS - 1) + 3 * count * NUM_ROUNDS + len(spans.made_room)


def test_what_is_stored_compactly_is_read_back_in_full(world):
    spans = world.log.spans
    read = with_parents(spans_table(spans), causes_table(spans))["parents"].to_pylist()
    begins = [0, *spans.parents_end.tolist()]
    assert read == [spans.parents[begin:end].tolist() for begin, end in pairwise(begins)]
    rows, flat = grant_rows_table(world.log.grants), grants_table(world.log.grants)
    assert flat.num_rows == 100 * rows.num_rows == len(world.log.grants)
    assert flat["client"].to_pylist()[::100] == rows["client"].to_pylist()
    assert flat["gain"].to_pylist() == [one for some in rows["gain"].to_pylist() for one in some]


def test_a_tuple_that_many_wait_for_is_one_set():
    spans, barrier = SpanLog(), tuple(range(9))
    for after in ([], barrier, barrier, list(barrier)):
        spans.add(after, "compute", "x", "client-0", "", 1, 1, 0, 0, 1, 0.0, 1, 0.0, "")
    spans.settle()
    assert list(spans.cause) == [0, 1, 1, 2]
    assert spans.parents_end.tolist() == [0, 9, 18, 27]


def test_a_wide_link_is_drawn_in_shorter_chunks_to_the_same_bits(monkeypatch):
    radio = Radio.model_validate(
        {
            "fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01},
            "main_uplink": {"num_subchannels": 100, "bandwidth_hz": 1e8, "max_total_tx_power_dbm": 20},
        }
    )
    short = Channel.build(radio, 2, 1)
    monkeypatch.setattr(gains_module, "_CHUNK_GAINS", 1 << 20)
    long = Channel.build(radio, 2, 1)
    some, others = (one.gains("main_uplink", 1, 5, 150) for one in (short, long))
    assert np.array_equal(some, others)
    assert short._gains._chunk_blocks["main_uplink"] == 16
    assert long._gains._chunk_blocks["main_uplink"] == 64
