"""Weights by loss, and what must be known before a sum over the air: what it costs, and what comes of it."""

from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from cosim.errors import ScenarioError
from cosim.explain import explain
from cosim.learning.operations.superpose import moments, sent_power, superpose
from cosim.learning.weighting.chebyshev import near_alike
from cosim.parts import family
from cosim.radio.medium.over_the_air import OverTheAir
from cosim.radio.precoding import Precoding
from cosim.record.folder import Record
from cosim.runs import run

FAIR = {
    "scheme": {
        "kind": "federated",
        "num_rounds": 2,
        "local_steps": 1,
        "weights": {"kind": "chebyshev", "epsilon": 0.2},
    },
    "radio.shadowing": {"kind": "none"},
    "radio.fading": {"kind": "none"},
    "radio.placement": {"kind": "given", "positions_m": [[60.0, 0.0], [0.0, 70.0], [-90.0, 0.0]]},
    "radio.medium": {
        "kind": "over_the_air",
        "values": "standardised",
        "channel_knowledge": "charged",
        "truncation_db": -400.0,
    },
    "radio.federated_downlink.modelled": True,
}
ALIKE = {**FAIR, "scheme": {**FAIR["scheme"], "weights": {"kind": "equal"}}}


@settings(deadline=None, max_examples=60)
@given(
    losses=st.lists(st.floats(0.1, 10.0), min_size=1, max_size=9, unique=True),
    epsilon=st.one_of(st.just(0.0), st.floats(1e-3, 1.0)),
)
def test_chebyshev_weights_solve_their_linear_program(losses, epsilon):
    count = len(losses)
    bounds = [(max(0.0, 1.0 / count - epsilon), min(1.0, 1.0 / count + epsilon))] * count
    best = linprog(-np.array(losses), A_eq=np.ones((1, count)), b_eq=[1.0], bounds=bounds)
    found = np.array(near_alike(losses, epsilon))
    assert found @ losses == pytest.approx(-best.fun, rel=1e-9)
    if min(np.diff(sorted(losses)), default=1.0) > 1e-3:  # else the solver cannot tell them apart
        np.testing.assert_allclose(found, best.x, atol=1e-7)


@pytest.mark.parametrize("uneven", [False, True])
def test_what_is_standardised_and_not_noisy_is_the_digital_average_and_the_loudest_has_all_its_power(uneven):
    chance = torch.Generator().manual_seed(3)
    names = {"a": (40, 5), "b": (7,)}
    begin, *senders = (
        {
            name: 3.0 + torch.randn(shape, generator=chance, dtype=torch.float64)
            for name, shape in names.items()
        }
        for _ in range(4)
    )
    senders[2] = {name: begin[name] + 9.0 * (one - begin[name]) for name, one in senders[2].items()}
    weights = [0.5, 0.3, 0.2]
    told = [moments.body(None, {}, sender, begin) for sender in senders]
    means, variances = (np.array([one[name] for one in told]) for name in ("mean", "variance"))
    mean = float(weights @ means)
    most = float(np.sqrt((variances + (means - mean) ** 2).max()))
    params = {"weights": weights, "noise_std": 0.0, "max_rms": most, "mean": mean, "seed": None}
    powers = [sent_power.body(None, params, sender, begin)["share"] for sender in senders]
    assert max(powers) == pytest.approx(1.0)
    assert powers[2] == max(powers)
    if uneven:
        grid = {"numbers_per_element": 2, "subcarriers": [3, 4], "symbols": [6, 9], "turns": []}
        grid |= {"weights": [[[one] * 2] * 2 for one in weights], "noise_std": [[0.0] * 2] * 2}
        params |= {"uneven": grid, "order_seed": 1}
    found = superpose.body(None, params, begin, *senders)["adapter"]
    for name in names:
        average = sum(weight * one[name] for weight, one in zip(weights, senders, strict=True))
        torch.testing.assert_close(found[name], average, rtol=0.0, atol=1e-12)


@pytest.fixture(scope="module")
def played(tiny_scenario, tmp_path_factory):
    def record(changes, **options):
        return Record.open(run(tiny_scenario(changes), tmp_path_factory.mktemp("runs") / "run", **options))

    return record


@pytest.fixture(scope="module")
def fair(played):
    return played(FAIR)


def spans(record, name, round_=1):
    return [one for one in record.spans.to_pylist() if (one["name"], one["round"]) == (name, round_)]


def metric(record, name, round_=1):
    rows = record.metrics.to_pylist()
    return [one["value"] for one in rows if (one["name"], one["round"]) == (name, round_)]


@pytest.mark.parametrize(
    ("changes", "up", "down"),
    [
        ({}, 4, 4),  # loss, mean, variance and gain; weight, mean, deviation and factor
        ({"radio.medium.channel_knowledge": "free"}, 3, 3),
        ({"radio.medium.values": "clipped"}, 2, 2),
        ({"scheme": ALIKE["scheme"]}, 3, 3),
        ({"radio.medium": {"kind": "fluid"}}, 1, 0),
    ],
)
def test_what_must_be_known_before_a_sum_is_sent_and_charged(changes, up, down, played):
    record = played({**FAIR, **changes}, timing_only=True)
    reports, answers, uploads = (spans(record, name) for name in ("report", "signalling", "adapter_upload"))
    assert [one["bits"] for one in reports] == [32 * up] * 3
    assert [one["bits"] for one in answers] == [32 * down] * (3 if down else 0)
    for one in (*reports, *answers):
        assert one["end_ns"] > one["start_ns"]
        assert one["energy_j"] > 0.0
    if not answers:  # over a medium without sums the closed form holds to the nanosecond
        lasted = [one["end_ns"] - one["start_ns"] for one in record.rounds.to_pylist() if one["round"]]
        assert record.manifest["plan"]["predicted_round_s"] * 1e9 == pytest.approx(lasted[0], abs=1)
    if up == 4:
        assert explain(record, reports[1]["id"]).expected_end_ns == reports[1]["end_ns"]
        assert explain(record, uploads[0]["id"]).is_summed
    last = max(one["end_ns"] for one in reports)
    assert all(one["start_ns"] >= last for one in answers)
    assert min(one["start_ns"] for one in uploads) >= max(one["end_ns"] for one in answers or reports)


@pytest.mark.parametrize(
    ("precoding", "num_senders", "symbols"),
    [("zero_forcing", 3, 1), ("zero_forcing", 25, 3), ("full_power", 12, 1), ("truncated_inversion", 25, 1)],
)
def test_pilots_take_an_element_in_each_subchannel_of_each_sender_whose_channel_must_be_known(
    precoding, num_senders, symbols
):
    charged = OverTheAir(precoding=family(Precoding)[precoding](), channel_knowledge="charged")
    free, widths_hz = charged.model_copy(update={"channel_knowledge": "free"}), np.full(4, 180e3)
    more = charged.summed_ns(widths_hz, 500, num_senders) - free.summed_ns(widths_hz, 500, num_senders)
    assert more == symbols * charged.symbol_ns
    share = 0.0 if precoding == "truncated_inversion" else 4.0 / 48.0
    assert charged.pilot_s(widths_hz) == pytest.approx(share * charged.symbol_ns * 1e-9)
    assert free.pilot_s(widths_hz) == 0.0


def test_pilots_are_in_the_span_of_the_sum_and_in_its_energy(played):
    free, charged = (
        spans(played({**ALIKE, "radio.medium.channel_knowledge": how}, timing_only=True), "adapter_upload")[0]
        for how in ("free", "charged")
    )
    longer_ns = [one["end_ns"] - one["start_ns"] for one in (charged, free)]
    assert longer_ns[0] - longer_ns[1] == OverTheAir().symbol_ns  # three pilots fit into one symbol
    assert charged["energy_j"] > free["energy_j"] > 0.0


def test_clients_arrive_with_the_weights_of_the_losses_they_reported(fair):
    for round_ in (1, 2):
        losses = metric(fair, "train_loss", round_)
        order = [one["actor"] for one in fair.metrics.to_pylist() if one["name"] == "train_loss"]
        wanted = dict(zip(order, near_alike(losses, 0.2), strict=False))
        rows = fair.metrics.to_pylist()
        found = {
            one["actor"]: one["value"]
            for one in rows
            if one["name"] == "air_weight" and one["round"] == round_
        }
        assert found == pytest.approx(wanted)
        assert sorted(metric(fair, "weight", round_)) == pytest.approx(sorted(wanted.values()))
    assert max(metric(fair, "air_weight")) == pytest.approx(1.0 / 3.0 + 0.2)


def test_over_quiet_air_what_is_learned_with_standardised_values_is_what_bits_learn(played):
    quiet = played({**ALIKE, "radio.noise_psd_dbm_per_hz": -300.0})
    digital = played({**ALIKE, "radio.medium": {"kind": "fluid"}})
    for round_ in (0, 1, 2):
        losses = [metric(one, "eval_loss", round_) for one in (quiet, digital)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_loudest_radiates_all_it_may_and_noise_is_what_the_gains_make_it(fair, played):
    no_pilots = {**ALIKE, "radio.medium.channel_knowledge": "free"}
    most = np.array(metric(played(no_pilots, timing_only=True), "tx_energy_j"))
    shares = np.array(metric(played(no_pilots), "tx_energy_j")) / most
    numbers, per_symbol = spans(fair, "adapter_upload")[0]["bits"] / 32, 2 * 20 * 33  # on 20 subchannels
    assert shares.max() == pytest.approx(numbers / (per_symbol * ceil(numbers / per_symbol)))
    assert 0.0 < shares.min() < shares.max()
    louder = played({**FAIR, "radio.noise_figure_db": 29.0})
    ratio = metric(louder, "air_noise_std")[0] / metric(fair, "air_noise_std")[0]
    assert ratio == pytest.approx(10.0)


def test_a_scheme_without_reports_refuses_weights_by_loss(tiny_scenario):
    with pytest.raises(
        ScenarioError, match="weights: 'chebyshev' goes by losses that clients report ahead of"
    ):
        tiny_scenario({"scheme": {"kind": "split_federated", "weights": {"kind": "chebyshev"}}})
