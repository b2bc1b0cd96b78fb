"""Federated LoRA on the clock: who takes part, and how long a round lasts."""

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosim.control.allocators.equal import Equal
from cosim.graph.store import Store
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.schemes.federated import Federated
from cosim.units import NS_PER_S

FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 3, "local_steps": 2}}


def spans_of(world):
    log = world.log.spans
    log.settle()
    names = ("name", "actor", "round", "local_step", "start_ns", "end_ns", "bits", "flop")
    return [{name: getattr(log, name)[row] for name in names} for row in range(len(log))]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    num_clients=st.integers(1, 5),
    local_steps=st.integers(1, 4),
    rank=st.integers(1, 8),
    bandwidth_hz=st.floats(1e5, 2e7),
    seed=st.integers(0, 99),
)
def test_a_round_lasts_as_long_as_the_slowest_client_computes_and_sends(
    tiny_scenario, play, num_clients, local_steps, rank, bandwidth_hz, seed
):
    """max over clients of local steps x FLOP / speed + bits / rate, written out from the numbers."""
    scenario = tiny_scenario(
        {
            "seed": seed,
            "scheme": {"kind": "federated", "num_rounds": 2, "local_steps": local_steps},
            "clients.count": num_clients,
            "lora.rank": rank,
            "radio.federated_uplink": {"bandwidth_hz": bandwidth_hz, "num_subchannels": 8},
        }
    )
    world = play(scenario)
    prepared, width, layers = prepare(scenario), 16, 3
    bits = 32 * layers * rank * (width + 3 * width)  # c_attn of each block
    cell, grants = (
        prepared.channel,
        Equal().allocate(prepared.decisions().state(0, 1)).grants["federated_uplink"],
    )
    flop = max(span["flop"] for span in spans_of(world))
    round_ns = 0
    for client, device in enumerate(prepared.clients):
        grant = grants[client]
        rate = float(cell.rates("federated_uplink", client, grant.subchannels, grant.tx_power_w, 0, 1)[0])
        compute_ns = local_steps * -(-flop * NS_PER_S // Fraction(device.flop_per_s))
        round_ns = max(round_ns, compute_ns - (-bits * NS_PER_S // Fraction(rate)))
    assert world.clock.now == 2 * round_ns


def test_who_takes_part_is_drawn_anew_each_round_and_nobody_more_often():
    scheme = Federated(participation=0.5)
    rounds = [scheme.taking_part(7, 10, round_) for round_ in range(1, 2001)]
    assert all(one == sorted(set(one)) and len(one) == 5 for one in rounds)
    assert rounds == [scheme.taking_part(7, 10, round_) for round_ in range(1, 2001)]
    times = np.array(list(Counter(client for one in rounds for client in one).values()))
    assert len(times) == 10
    assert np.abs(times - 1000).max() < 5 * np.sqrt(2000 * 0.25)
    together = Counter((a, b) for one in rounds for a in one for b in one if a < b)
    assert len(together) == 45  # pairs are not tied to each other


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.34, 2), (1.0, 3)])
def test_only_those_who_take_part_compute_and_upload_and_all_download(tiny_scenario, play, share, count):
    world = play(tiny_scenario({**FEDERATED, "scheme.participation": share}))
    names = defaultdict(Counter)
    for span in spans_of(world):
        names[span["round"]][span["name"]] += 1
    for of_round in names.values():
        assert of_round == {
            "client_forward_backward": 2 * count,
            "adapter_upload": count,
            "aggregate": 1,
            "adapter_download": 3,
        }


def test_a_model_of_one_layer_need_not_be_cut(tiny_scenario):
    changes = {"model.base.config.n_layer": 1, "model.cut_layer": 1}
    assert any("cut" in fault for fault in check(tiny_scenario(changes)))
    assert check(tiny_scenario({**changes, **FEDERATED})) == []


def test_a_client_without_memory_for_the_whole_model_is_refused_with_the_numbers(tiny_scenario):
    (fault,) = check(tiny_scenario({**FEDERATED, "clients.memory_bytes": 1e5}))
    assert "client-0" in fault
    assert "memory" in fault


SOFT_TSFA = {
    "scheme": {
        "kind": "federated",
        "num_rounds": 4,
        "local_steps": 2,
        "adapter_codec": {"kind": "soft"},
        "regularizer": {"kind": "orthogonality"},
    },
    "lora.target_modules": ["all-linear"],
    "allocator": {"kind": "tsfa", "latency_limit_s": 0.08},
    "radio.federated_uplink": {"bandwidth_hz": 1e5, "num_subchannels": 3},
    "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.05},
}


@pytest.mark.parametrize(
    "codec", [{"kind": "soft"}, {"kind": "soft", "importance": "norm", "error_feedback": False}]
)
def test_what_decides_a_round_is_recalled_as_it_was_computed(tiny_scenario, tmp_path, codec):
    """Energies come from the store in the bits in which they went in, so that decisions are the same."""
    scenario = tiny_scenario({**SOFT_TSFA, "scheme.adapter_codec": codec})
    store = Store(tmp_path / "store")
    runs = [
        Record.open(run(scenario, tmp_path / name, store=one))
        for name, one in (("alone", None), ("first", store), ("again", store))
    ]
    assert runs[1].manifest["works"]["recalled"] == 0
    assert runs[2].manifest["works"]["computed"] == 0
    for name in ("spans", "metrics", "grants"):
        first, *others = ((one.path / f"{name}.parquet").read_bytes() for one in runs)
        assert all(other == first for other in others)
    ratios = [row["value"] for row in runs[0].metrics.to_pylist() if row["name"] == "sparsification_ratio"]
    assert min(ratios) < 1.0 < 2.0 * max(ratios)


def test_who_does_not_take_part_gets_no_share_of_the_band(tiny_scenario, tmp_path):
    """An allocator of sparsification ratios lets those who sit out neither send nor hold anybody up."""
    scenario = tiny_scenario({**SOFT_TSFA, "scheme.participation": 0.34})
    rows = Record.open(run(scenario, tmp_path / "run")).metrics.to_pylist()
    taking_part = {
        round_: {f"client-{client}" for client in scenario.scheme.taking_part(scenario.seed, 3, round_)}
        for round_ in range(1, 5)
    }
    last = {
        (row["round"], row["actor"]): row["value"] for row in rows if row["name"] == "sparsification_ratio"
    }
    for (round_, actor), ratio in last.items():
        assert (ratio > 0.0) == (actor in taking_part[round_])
