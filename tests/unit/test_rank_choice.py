"""TSFA's first stage: what a round would change, and what each rank would cost."""

import json

import numpy as np
import pytest
import torch

from cosim.cli.app import app
from cosim.errors import CosimError, ScenarioError
from cosim.learning.codec.pairs import pairs_of
from cosim.learning.pair_energy import covariance_error
from cosim.learning.update_spectrum import update_spectrum
from cosim.rank_choice import choose_rank, run_pilot, unsent_energy

RANK, SIZES = 3, {"q": (7, 5), "v": (4, 11)}
WEIGHTS = [0.5, 0.3, 0.2]


def adapter(seed):
    made = torch.Generator().manual_seed(seed)
    found = {}
    for name, (num_outputs, num_inputs) in SIZES.items():
        for factor, shape in (("A", (RANK, num_inputs)), ("B", (num_outputs, RANK))):
            found[f"{name}.lora_{factor}.weight"] = torch.randn(shape, generator=made, dtype=torch.float64)
    return found


def product(one, name):
    return one[f"{name}.lora_B.weight"] @ one[f"{name}.lora_A.weight"]


def test_the_spectrum_is_that_of_the_products():
    reference, adapters = adapter(0), [adapter(seed) for seed in (1, 2, 3)]
    energies, beyond, covariance = update_spectrum(pairs_of(reference), adapters, WEIGHTS, reference)
    expected, rest, cross = np.zeros(RANK), 0.0, 0.0
    for name in SIZES:
        mean = sum(w * product(one, name) for w, one in zip(WEIGHTS, adapters, strict=True))
        squares = torch.linalg.svdvals(mean - product(reference, name)).square().numpy()
        expected += squares[:RANK]
        rest += squares[RANK:].sum()
        factors = {
            part: sum(w * one[f"{name}.lora_{part}.weight"] for w, one in zip(WEIGHTS, adapters, strict=True))
            for part in "AB"
        }
        cross += float((mean - factors["B"] @ factors["A"]).square().sum())
    assert energies == pytest.approx(expected, rel=1e-12)
    assert beyond == pytest.approx(rest, rel=1e-12)
    assert covariance == pytest.approx(cross, rel=1e-12)
    relative = covariance_error(pairs_of(reference), adapters, WEIGHTS, reference)
    assert np.sqrt(covariance / (energies.sum() + beyond)) == pytest.approx(relative, rel=1e-12)


def test_where_all_clients_are_alike_factors_average_without_covariance():
    reference, same = adapter(0), adapter(1)
    *_, covariance = update_spectrum(pairs_of(reference), [same] * 3, WEIGHTS, reference)
    assert covariance == pytest.approx(0.0, abs=1e-20)


@pytest.fixture
def scenario(tiny_scenario):
    def make(changes=None):
        return tiny_scenario(
            {
                "scheme": {
                    "kind": "federated",
                    "num_rounds": 2,
                    "local_steps": 2,
                    "adapter_codec": {"kind": "soft"},
                },
                "allocator": {"kind": "tsfa", "latency_limit_s": 0.0002},
                **(changes or {}),
            }
        )

    return make


def test_a_pilot_sees_larger_ranks_change_the_model_in_more_directions(scenario):
    pilot = run_pilot(scenario(), 4, seed=1)
    assert pilot.energies.shape == (4,)
    assert (np.diff(pilot.energies) <= 0.0).all()
    assert pilot.energies[0] > 0.0
    assert pilot.covariance > 0.0


def test_less_is_left_unsent_under_a_longer_limit(scenario):
    energies = np.array([4.0, 2.0, 1.0, 0.5])
    base = scenario()
    unsent = []
    for limit in (4e-5, 2e-4, 4e-4, 1e3):
        longer = scenario({"allocator": {"kind": "tsfa", "latency_limit_s": limit}})
        try:
            unsent.append(unsent_energy(longer, 4, energies, 0)[0])
        except CosimError:
            unsent.append(7.5)  # not even the mask gets through
    assert sorted(unsent, reverse=True) == unsent
    assert unsent[-1] == 0.0
    fading = scenario({"radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.01}})
    assert unsent_energy(fading, 4, energies, 20)[0] != unsent_energy(base, 4, energies, 0)[0]


def test_the_chosen_rank_has_the_least_price(scenario):
    found = choose_rank(scenario(), [1, 2, 4])
    totals = {rank: price.total for rank, price in found.prices.items()}
    assert found.best == min(totals, key=totals.get)
    assert set(found.covariances) == {1, 2, 4}
    for rank, price in found.prices.items():
        assert price.covariance == pytest.approx(found.covariance_per_rank * rank)
        assert price.rank_error == pytest.approx(found.energies[rank:].sum())


def test_a_rank_is_chosen_only_where_a_limit_asks_for_it(tiny_scenario, scenario):
    with pytest.raises(ScenarioError, match="with latency_limit_s"):
        choose_rank(tiny_scenario({}), [1, 2])
    with pytest.raises(ScenarioError, match="nothing to choose"):
        choose_rank(scenario(), [2])
    with pytest.raises(ScenarioError, match=r"lora\.alpha"):
        choose_rank(scenario({"lora.alpha": 8.0}), [1, 2])


def test_the_command_line_names_the_rank_and_writes_why(scenario, tmp_path):
    from typer.testing import CliRunner

    from cosim.scenario.load import to_toml

    file = tmp_path / "s.toml"
    file.write_text(to_toml(scenario()))
    out = tmp_path / "rank.json"
    told = CliRunner().invoke(
        app, ["calibrate", str(file), "--ranks", "1,2", "--seeds", "1", "--no-store", "--out", str(out)]
    )
    assert told.exit_code == 0, told.output
    entries = json.loads(out.read_text())
    assert f"rank {entries['rank']} costs least" in told.output
    assert set(entries["prices"]) == {"1", "2"}
