"""The environment against the event kernel, gymnasium's own checker, and what it refuses."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.control.policy_file import save
from cosim.errors import AllocationError, ScenarioError
from cosim.graph.executor import TimingOnly
from cosim.parts import make
from cosim.radio.rate import RateModel
from cosim.record.folder import RunFolder
from cosim.record.log import Log
from cosim.scenario.build import prepare
from cosim.scenario.load import change, load, run_hash, to_toml
from cosim.testing.selection import examples_of

gymnasium = pytest.importorskip("gymnasium")

air, alone, envs_cells = (pytest.importorskip(f"cosim.envs.{name}") for name in ("air", "alone", "cells"))

SMALL = """
seed = 1
[scheme]
kind = "split_federated"
num_rounds = 3
local_steps = 3
[model]
cut_layer = 1
[data]
sequence_length = 16
source = { kind = "embedded", num_train = 30, num_test = 10 }
[clients]
count = 3
clock_hz = { kind = "uniform", low = 1.0e9, high = 1.6e9 }
flop_per_cycle = 4
energy_coefficient = 1e-28
[radio]
fading = { kind = "rayleigh_block", coherence_time_s = 0.9 }
uplink_energy = { baseline_w = 1.1, j_per_bit = 1e-8 }
[radio.main_uplink]
num_subchannels = 9
bandwidth_hz = 2e6
max_total_tx_power_dbm = 25.0
[radio.main_downlink]
modelled = true
num_subchannels = 4
bandwidth_hz = 1e6
[radio.federated_uplink]
num_subchannels = 5
bandwidth_hz = 1e6
"""


SPARSE = {
    "scheme": {"kind": "federated", "num_rounds": 3, "local_steps": 2, "adapter_codec": {"kind": "soft"}}
}
"""Changes to a scheme in which a decision may leave a share of each adapter out."""

ROUND = {"radio.rate": {"kind": "constant_bandwidth", "rate_bit_per_s": 1e6}}
"""Changes to a rate at which transfers end where floats leave the nanosecond in doubt."""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("envs") / "small.toml"
    path.write_text(SMALL)
    return load(path)


def made(scenario, **settings):
    import cosim.envs

    return gymnasium.make(cosim.envs.CELL, scenario=scenario, **settings).unwrapped


def random_policy(form, seed):
    rng = np.random.default_rng(seed)
    wide = 8
    return {
        "mean": np.zeros(form.num_observed),
        "std": np.full(form.num_observed, 30.0),
        "layers.0.weight": rng.normal(size=(wide, form.num_observed)),
        "layers.0.bias": rng.normal(size=wide),
        "layers.1.weight": rng.normal(size=(form.num_decided, wide)),
        "layers.1.bias": rng.normal(size=form.num_decided),
    }


def played(scenario):
    """Return when the event kernel ends each round, ns, and the energy of all spans of each, J."""
    prepared = prepare(scenario)
    world = prepared.world(lambda _rank: TimingOnly())
    world.play(scenario.scheme.run(world))
    spans = world.log.spans
    spans.settle()
    ends = dict.fromkeys(spans.round, 0)
    energy_j = dict.fromkeys(spans.round, 0.0)
    for round_, end_ns, joule in zip(spans.round, spans.end_ns, spans.energy_j, strict=True):
        ends[round_] = max(ends[round_], end_ns)
        energy_j[round_] += joule
    return list(ends.values()), list(energy_j.values())


@pytest.mark.parametrize("coherence_time_s", [None, 0.9, 0.05])
@pytest.mark.parametrize(
    ("sets", "changes"),
    [
        ((), {}),
        (("cut", "rank", "participation"), {}),
        (("rank", "participation", "sparsification"), SPARSE),
        (("sparsification",), {**SPARSE, "scheme.adapter_codec": {"kind": "top_k", "ratio_of": "bits"}}),
    ],
    ids=["air", "split", "pairs", "top_k"],
)
def test_a_policy_meets_in_the_event_kernel_what_it_met_in_the_environment(
    small, tmp_path, coherence_time_s, sets, changes
):
    from cosim.control.policy_file import load as load_policy

    own = change(small, {"radio.fading.coherence_time_s": coherence_time_s, **changes})
    env = made(own, sets=sets, ranks=(2, 4) if "rank" in sets else (), flat_observation=True)
    path = tmp_path / "policy.safetensors"
    save(path, env.form, random_policy(env.form, 1))
    policy = load_policy(path)
    seen, _ = env.reset(seed=7)
    ends, energy_j, has_ended = [], [], False
    while not has_ended:
        action = np.clip(policy(seen[np.newaxis])[0], -1.0, 1.0).astype(np.float32)
        seen, reward, has_ended, _, told = env.step(action)
        assert reward == -told["round_s"]
        ends.append(told["time_ns"])
        energy_j.append(told["energy_j"])
    changes = {"allocator": {"kind": "policy", "file": str(path)}, "radio.seed": 7}
    kernel_ends, kernel_j = played(change(own, changes))
    assert ends == kernel_ends
    np.testing.assert_allclose(energy_j, kernel_j, rtol=1e-12)


@pytest.mark.parametrize("coherence_time_s", [None, 0.9, 0.45, 0.05])
@pytest.mark.parametrize(
    ("changes", "sets"), [({}, ()), (ROUND, ()), (SPARSE, ("participation", "sparsification"))]
)
@pytest.mark.parametrize("num_copies", [3, alone.FEW + 4])
def test_copies_are_played_as_one_by_itself(small, num_copies, changes, sets, coherence_time_s):
    import cosim.envs

    changes = {"radio.fading.coherence_time_s": coherence_time_s, **changes}
    settings = {"scenario": change(small, changes), "actions": "discrete", "sets": sets}
    many = gymnasium.make_vec(
        cosim.envs.CELL,
        num_envs=num_copies,
        vectorization_mode="vector_entry_point",
        **settings,
    )
    alone = made(**settings)
    seen, _ = many.reset(seed=4)
    actions = [many.action_space.sample() for _ in range(4)]
    rows = [many.step(one) for one in actions]
    for copy in range(num_copies):
        first, _ = alone.reset(seed=4 + copy)
        np.testing.assert_array_equal(first, seen[copy])
        for action, (observed, rewards, ended, _, told) in zip(actions[:3], rows[:3], strict=True):
            expected = alone.step(action[copy])
            np.testing.assert_array_equal(observed[copy], expected[0])
            assert (rewards[copy], ended[copy]) == expected[1:3]
            assert told["time_ns"][copy] == expected[4]["time_ns"]
            assert told["energy_j"][copy] == pytest.approx(expected[4]["energy_j"], rel=1e-12)
    _, rewards, ended, _, told = rows[3]  # all begin again, on airs to train on
    assert not rewards.any()
    assert not ended.any()
    assert (many.cells.seeds % 2 == 0).all()


def test_rates_are_worked_out_as_far_as_they_are_asked_for(small):
    env = made(small)
    env.reset(seed=3)
    cells, copies = env.cells, np.zeros(1, dtype=np.int64)
    owners = [np.arange(one.num_subchannels)[np.newaxis] % 3 for one in cells._links]
    band = air.Band(cells._airs, owners, [np.full((1, 3), 0.1) for _ in owners])
    for block in (0, 1, 5, 40):
        rates = envs_cells._Rates(cells._airs, band, cells._gains, copies)
        expected = rates.over(0, block, 1)
        np.testing.assert_array_equal(rates.at(copies, copies + block), expected)
        of_one = rates.of(copies, copies + block, copies + 2, copies + 1)
        np.testing.assert_array_equal(of_one, expected[:, 2, 1])


@pytest.mark.parametrize("example", examples_of(RateModel))
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), counts=st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_rates_of_grants_side_by_side_are_those_of_each_by_itself(small, example, seed, counts):
    """The bits of the channel's own sum, however many subchannels a client has; some have none."""
    rng, num, num_clients, count = np.random.default_rng(seed), 3, 4, 2
    model = make(RateModel, example)
    radio = small.radio.model_copy(update={"rate": model})
    links = [
        SimpleNamespace(num_subchannels=7 * one, bandwidths_hz=rng.uniform(1e5, 3e5, 7 * one))
        for one in counts
    ]
    airs = air.Airs(radio, links, num, num_clients)
    owners = [rng.integers(num_clients, size=(num, one.num_subchannels)) for one in links]
    powers_w = [rng.uniform(0.01, 0.2, (num, num_clients)) for _ in links]
    band = air.Band(airs, owners, powers_w)
    own_gains = rng.exponential(1e-11, (num, count, len(airs.widths_hz)))
    found = band.rates(np.arange(num), own_gains)
    for number, (link, columns) in enumerate(zip(links, airs.columns, strict=True)):
        for copy, client in np.ndindex(num, num_clients):
            own = np.flatnonzero(owners[number][copy] == client)
            psd = powers_w[number][copy, client] / max(len(own), 1) / link.bandwidths_hz[own]
            snr = psd * own_gains[copy][:, columns][:, own] / radio.noise_psd_w_per_hz
            expected = model.rates(np.ascontiguousarray(snr), link.bandwidths_hz[own])
            np.testing.assert_array_equal(found[copy, :, number, client], expected)


@pytest.mark.parametrize("actions", ["box", "discrete", "dict"])
@pytest.mark.filterwarnings("ignore")  # what is unusual in a space, not wrong
def test_gymnasium_finds_no_fault(small, actions):
    from gymnasium.utils.env_checker import check_env

    check_env(made(small, actions=actions, sets=("cut", "rank", "participation"), ranks=(2, 4)))
    sparse = made(change(small, SPARSE), actions=actions, sets=("participation", "sparsification"))
    check_env(sparse)
    sparse.reset(seed=1)
    too_much = sparse.action_space.sample()
    if actions == "dict":
        too_much["sparsification"] = np.full(3, 1.5, dtype=np.float32)
    else:
        too_much[-1] = 10
    with pytest.raises(AllocationError, match=r"^action: .* is not in .*; clip it") as refused:
        sparse.step(too_much)
    assert "\n" not in str(refused.value)


def test_held_out_airs_are_of_other_seeds_and_settings(small):
    env = made(small, test={"radio.noise_figure_db": 25.0})
    trained = [env.reset(seed=1)[1], *(env.reset()[1] for _ in range(3))]
    assert trained[0]["radio_seed"] == 1
    near, _ = env.reset(seed=5)
    far, _ = env.reset(seed=5, options={"split": "test"})
    assert all(one["radio_seed"] % 2 == 0 for one in trained[1:])
    assert env.reset()[1]["radio_seed"] % 2 == 1
    assert far[:20].mean() < near[:20].mean()


def test_no_decision_beats_the_bound(small):
    still = change(small, {"radio.fading.coherence_time_s": None})
    env = made(still, bound=True)
    env.reset(seed=2)
    told = env.step(env.action_space.sample())[4]
    assert 0.0 < told["bound_s"] <= told["round_s"] * (1.0 + 1e-6)
    assert told["gap"] == pytest.approx(told["round_s"] / told["bound_s"] - 1.0, rel=1e-6)


def recorded(scenario, folder, losses):
    """Write a run of a scenario with these held-out losses, from round 0 on; return its folder."""
    made_of = {"name": scenario.name, "seed": 1, "timing_only": not losses, "scenario": run_hash(scenario)}
    run, log = RunFolder.create(folder, to_toml(scenario), {**made_of, "inputs": {}}), Log()
    for round_, loss in enumerate(losses):
        log.metrics.add(round_, round_, 0, "main-server", "eval_loss", loss, task="")
    run.finish(log, "complete", simulated_s=1.0, works={"computed": 0, "recalled": 0})
    return folder


def test_time_to_a_loss_ends_with_the_round_that_reaches_it(small, tmp_path):
    other_air = change(small, {"radio.noise_figure_db": 3.0})
    learned = recorded(other_air, tmp_path / "learned", [3.0, 2.5, 1.9, 1.8])
    env = made(small, reward="time_to_loss", record=learned, level=2.0)
    env.reset(seed=1)
    steps = [env.step(env.action_space.sample()) for _ in range(2)]
    assert [one[2] for one in steps] == [False, True]
    assert -sum(one[1] for one in steps) == pytest.approx(steps[-1][4]["time_ns"] / 1e9)
    asked = {"reward": "time_to_loss", "record": learned}
    for chosen, message in (
        ({"reward": "time_to_loss"}, "'time_to_loss' needs learned values; give record"),
        ({**asked, "level": 1.0}, r"the loss 1 is never reached in .*; its least is 1\.8"),
        ({**asked, "level": 2.0, "sets": ("cut",)}, "'cut' changes what is learned"),
        ({**asked, "level": 2.0, "record": recorded(small, tmp_path / "timed", [])}, "was only timed"),
    ):
        with pytest.raises(ScenarioError, match=message):
            made(small, **chosen)
    with pytest.raises(ScenarioError, match=r"has another scheme\.local_steps than the scenario"):
        made(change(small, {"scheme.local_steps": 2}), **asked, level=2.0)


def test_what_cannot_be_is_refused_in_a_line(small, tmp_path):
    env = made(small)
    env.reset(seed=1)
    with pytest.raises(AllocationError, match=r"action: .* is not in Box"):
        env.step(np.full(env.action_space.shape, 1.5, dtype=np.float32))
    with pytest.raises(ScenarioError, match="'split': 'valid'"):
        env.reset(options={"split": "valid"})
    with pytest.raises(AllocationError, match="sets: nobody may say here how much of an adapter is sent"):
        made(small, sets=("sparsification",))
    with pytest.raises(ScenarioError, match="reward: 'speed' is none"):
        made(small, reward="speed")
    with pytest.raises(ScenarioError, match=r"radio\.csi"):
        made(change(small, {"radio.csi.kind": "delayed"}))
    path = tmp_path / "policy.safetensors"
    save(path, env.form, random_policy(env.form, 1))
    wider = change(small, {"radio.main_uplink.num_subchannels": 12})
    asked = change(wider, {"allocator": {"kind": "policy", "file": str(path)}})
    message = "policy is for 3 clients, 9 subchannels of main_uplink.*scenario has 3 clients, 12 subchannels"
    with pytest.raises(AllocationError, match=message):
        played(asked)
    path.write_bytes(b"nothing")
    asked = change(small, {"allocator": {"kind": "policy", "file": str(path)}})
    with pytest.raises(AllocationError, match="is no policy"):
        played(asked)
