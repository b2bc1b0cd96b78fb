"""Flower applications on our clock: what they learn, when, and what a what-if does with them."""

from pathlib import Path

import pytest

pytest.importorskip("flwr.serverapp", reason="Flower is not installed: pip install 'cosim-fl[flower]'")

import flower_apps
import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from torch.utils.flop_counter import FlopCounterMode

import cosim
import cosim.flower
from cosim.cli import answer
from cosim.errors import CosimError, RecordError, ScenarioError
from cosim.learning.torch_flop import TorchFlop
from cosim.record.folder import Record
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario

UP = "radio.federated_uplink.bandwidth_hz"


@pytest.fixture(scope="module")
def scenario():
    link = {"num_subchannels": 6, "bandwidth_hz": 1e6}
    return Scenario.model_validate(
        {
            "name": "flower",
            "scheme": {"kind": "federated"},
            "clients": {"count": flower_apps.NUM_CLIENTS},
            "radio": {"federated_uplink": link, "federated_downlink": {**link, "modelled": True}},
            "allocator": {"kind": "equal"},
        }
    )


def run(scenario, app, out, **settings):
    return cosim.flower.run(scenario, app.server_app, app.client_app, out=out, **settings)


def same_as_simulated(scenario, make, out):
    ours, theirs = make(), make()
    run(scenario, ours, out)
    flower_apps.simulate(theirs)
    assert len(ours.learned) == len(theirs.learned) > 0
    np.testing.assert_allclose(ours.learned, theirs.learned, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Flower about itself
@pytest.mark.parametrize("name", flower_apps.TEN)
def test_an_application_learns_what_flowers_simulation_does(scenario, name, tmp_path):
    same_as_simulated(scenario, flower_apps.TEN[name], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_clipping_in_a_mod_of_flower_is_that_of_its_simulation(scenario, tmp_path):
    same_as_simulated(scenario, flower_apps.CLIPPED, tmp_path / "run")


def test_fedavg_is_the_same_under_two_channels_and_the_what_if_runs_nothing(scenario, tmp_path):
    app, wide = flower_apps.TEN["fedavg"](), flower_apps.TEN["fedavg"]()
    first = run(scenario, app, tmp_path / "first")
    again = run(scenario, wide, tmp_path / "wide", changes={UP: 3e6})
    assert app.learned == wide.learned
    replayed = cosim.whatif(first, {UP: 3e6}, out=tmp_path / "replayed")
    assert replayed.manifest["simulated_s"] < first.manifest["simulated_s"]
    for table in ("spans", "metrics", "grants", "rounds"):
        ours, theirs = (one.path.joinpath(f"{table}.parquet").read_bytes() for one in (replayed, again))
        assert ours == theirs, table
    assert replayed.manifest["fingerprints"]["learning"] == first.manifest["fingerprints"]["learning"]


def echo(size=1_000):
    app = ClientApp()

    @app.query()
    def query(message, context):
        number = context.node_config["partition-id"]
        if message.content["config"].get("fails") == number:
            raise ValueError("no such luck")
        return Message(
            RecordDict({"big": ConfigRecord({"bytes": b"0" * size}), "who": MetricRecord({"who": number})}),
            reply_to=message,
        )

    return app


def asking(act):
    """Return a server that calls ``act(grid, messages)`` with a query for each client."""
    app, seen = ServerApp(), []

    @app.main()
    def main(grid, context):
        def messages(**config):
            content = RecordDict({"config": ConfigRecord(config)})
            return [Message(content, node, "query") for node in grid.get_node_ids()]

        seen.append(act(grid, messages))

    return app, seen


def whose(replies):
    return [one.content["who"]["who"] for one in replies if one.has_content()]


def test_messages_are_transfers_with_their_bytes(scenario, tmp_path):
    def played(size, name):
        server, _ = asking(lambda grid, messages: grid.send_and_receive(messages()))
        record = cosim.flower.run(scenario, server, echo(size), out=tmp_path / name, seconds={"query": 0.25})
        return record.spans.to_pylist()

    small, large = played(1_000, "small"), played(3_000, "large")
    sizes = [{one["bits"] for one in spans if one["name"] == "query reply"} for spans in (small, large)]
    # the bytes, and no more than a longer length in each of the records they are in
    assert 0 <= min(sizes[1]) - max(sizes[0]) - 8 * 2_000 <= 8 * 8
    computed = [one for one in small if one["kind"] == "compute"]
    assert len(computed) == flower_apps.NUM_CLIENTS
    assert all(abs(one["end_ns"] - one["start_ns"] - 250_000_000) <= 1 for one in computed)


def slower(client, message, reply):
    return [0.3, 0.1, 0.9][client]


def test_a_poll_sees_replies_in_simulated_order(scenario, tmp_path):
    def poll(grid, messages):
        left, order = list(grid.push_messages(messages())), []
        while len(order) < flower_apps.NUM_CLIENTS:
            order += whose(grid.pull_messages(left))
        return order

    server, seen = asking(poll)
    record = cosim.flower.run(scenario, server, echo(), out=tmp_path / "run", seconds=slower)
    assert seen == [[1, 0, 2]]
    cosim.whatif(record, {UP: 2e6}, out=tmp_path / "alike")


def test_who_is_later_than_the_timeout_is_left_out_and_a_replay_in_which_he_is_not_is_refused(
    scenario, tmp_path
):
    server, seen = asking(
        lambda grid, messages: (whose(grid.send_and_receive(messages(), timeout=0.6)), grid.now_s())
    )
    record = cosim.flower.run(scenario, server, echo(), out=tmp_path / "run", seconds=slower)
    assert seen == [([0, 1], 0.6)]
    cosim.whatif(record, {UP: 2e6}, out=tmp_path / "alike")
    with pytest.raises(ScenarioError, match="would see other replies"):
        cosim.whatif(record, {"clients.clock_hz": 1e12}, out=tmp_path / "faster")


def test_a_client_that_raises_is_an_error_reply(scenario, tmp_path):
    server, seen = asking(lambda grid, messages: list(grid.send_and_receive(messages(fails=1))))
    cosim.flower.run(scenario, server, echo(), out=tmp_path / "run")
    (replies,) = seen
    assert [one.has_error() for one in replies] == [False, True, False]
    assert "no such luck" in replies[1].error.reason


def test_an_exception_of_the_server_ends_the_run_and_marks_it(scenario, tmp_path):
    def fail(grid, messages):
        raise ZeroDivisionError("of the application")

    with pytest.raises(ZeroDivisionError):
        cosim.flower.run(scenario, asking(fail)[0], echo(), out=tmp_path / "run")
    record = cosim.open_run(tmp_path / "run")
    assert record.status == "failed"
    with pytest.raises(RecordError, match="run that again"):
        cosim.resume(record, store=False)


def test_what_cannot_carry_messages_is_refused_with_its_place(scenario, tmp_path):
    other = change(scenario, {"scheme.kind": "split_federated", "allocator.kind": "matched"})
    server, _ = asking(lambda grid, messages: None)
    with pytest.raises(CosimError, match=r"scheme\.kind(.|\n)*allocator\.kind"):
        cosim.flower.run(other, server, echo(), out=tmp_path / "run")


def test_the_example_runs_from_its_directory_and_a_faulty_directory_is_refused(tmp_path):
    example = Path(__file__).parents[2] / "examples" / "flower"
    record = cosim.flower.run_directory(example / "cell.toml", example, out=tmp_path / "run")
    assert record.manifest["program"] == "line-fit"
    assert [one["round"] for one in record.rounds.to_pylist()] == [1, 2, 3]
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    with pytest.raises(ScenarioError, match=r"tool\.flwr\.app\.components"):
        cosim.flower.load_application(tmp_path)


def test_the_command_runs_an_application_and_refuses_what_it_cannot_use(tmp_path, capfd):
    example = Path(__file__).parents[2] / "examples" / "flower"
    asked = ["flower", str(example / "cell.toml"), str(example), "--out", str(tmp_path / "run")]
    assert answer([*asked, "--run-config", "num-rounds=1", "--seconds", "train=2.5", "--json"]) == 0
    record = Record.open(tmp_path / "run")
    assert [one["round"] for one in record.rounds.to_pylist()] == [1]
    assert record.manifest["simulated_s"] > 2.5
    for options, why in (
        (
            ["--run-config", "num-round=1"],
            "the application has no 'num-round'; known: local-steps, num-rounds",
        ),
        (["--seconds", "train=soon"], "--seconds train: must be a number of seconds"),
        (["--run-config", "num-rounds='many'"], "the application ended with ValueError"),
    ):
        capfd.readouterr()
        assert answer([*asked[:-1], str(tmp_path / "refused"), *options]) == 2
        assert why in capfd.readouterr().err


def test_flop_are_those_of_torchs_counter():
    def step():
        flower_apps.fit(flower_apps.network(), 0)

    with TorchFlop() as ours:
        step()
    with FlopCounterMode(display=False) as theirs:
        step()
    assert ours.total == theirs.get_total_flops() > 0
