"""Clients that come and go, and servers that restart: exact on the clock, and on record."""

import numpy as np
import pytest

from cosim.errors import ScenarioError
from cosim.explain import explain
from cosim.radio.slots.spent import Spent
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.units import NS_PER_S

FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 1}}
SLOW = {"clients.clock_hz": 1e6, "radio.federated_uplink.bandwidth_hz": 1e5}


def away(tmp_path, *rows, **given):
    file = tmp_path / "away.csv"
    file.write_text("\n".join(["client,away_s,back_s", *(",".join(map(str, row)) for row in rows)]))
    return {"availability": {"kind": "intervals", "file": str(file), **given}}


def rows(world):
    """Return the spans as rows, by number."""
    spans = world.log.spans
    spans.settle()
    names = ("name", "actor", "peer", "round", "asked_ns", "start_ns", "end_ns", "bits", "flop", "energy_j")
    found = [{name: getattr(spans, name)[at] for name in names} for at in range(len(spans))]
    for at, row in enumerate(found):
        extra = spans.extras.get(at)
        row["resent_bits"] = 0.0 if extra is None else extra.resent_bits
        row["delivered"] = extra is None or extra.delivered
    return found


def of(world, name, client=1, round_=1):
    return next(
        one
        for one in rows(world)
        if one["name"] == name
        and f"client-{client}" in (one["actor"], one["peer"])
        and one["round"] == round_
    )


def metrics(world, name):
    log = world.log.metrics
    return [(log.actor[at], log.round[at], log.value[at]) for at in range(len(log)) if log.name[at] == name]


@pytest.fixture(scope="module")
def plain(tiny_scenario, play):
    return play(tiny_scenario({**FEDERATED, **SLOW}))


def middle_s(span):
    return (span["start_ns"] + span["end_ns"]) / 2 / NS_PER_S


def lasts_ns(span):
    return span["end_ns"] - span["start_ns"]


@pytest.mark.parametrize("name", ["client_forward_backward", "adapter_upload"])
def test_work_goes_on_when_its_client_is_back(name, tiny_scenario, play, plain, tmp_path):
    before = of(plain, name)
    since = round(middle_s(before), 6)
    given = away(tmp_path, (1, since, since + 3.25))
    world = play(tiny_scenario({**FEDERATED, **SLOW, **given}))
    after = of(world, name)
    assert lasts_ns(after) - lasts_ns(before) == 3_250_000_000
    assert (after["bits"], after["flop"], after["resent_bits"]) == (before["bits"], before["flop"], 0.0)
    assert after["energy_j"] == pytest.approx(before["energy_j"], rel=1e-9)
    assert metrics(world, "away_s") == [("client-1", 1, 3.25)]
    for other in (0, 2):
        assert of(world, name, other) == of(plain, name, other)


@pytest.mark.parametrize("name", ["client_forward_backward", "adapter_upload"])
def test_work_that_begins_again_costs_what_was_lost(name, tiny_scenario, play, plain, tmp_path):
    before = of(plain, name)
    since = round(middle_s(before), 6)
    given = away(tmp_path, (1, since, since + 3.25), on_leave="restart")
    after = of(play(tiny_scenario({**FEDERATED, **SLOW, **given})), name)
    lost_ns = round(since * NS_PER_S) - before["start_ns"]
    assert lasts_ns(after) == lasts_ns(before) + 3_250_000_000 + lost_ns
    more = lost_ns / lasts_ns(before)
    assert after["energy_j"] == pytest.approx(before["energy_j"] * (1.0 + more), rel=1e-6)
    assert after["bits"] + after["resent_bits"] == pytest.approx(before["bits"] * (1.0 + more), rel=1e-6)
    assert after["flop"] == pytest.approx(before["flop"] * (1.0 + more), rel=1e-6)
    assert after["delivered"]


@pytest.mark.parametrize("name", ["client_forward_backward", "adapter_upload"])
def test_who_is_dropped_is_not_in_the_average_and_back_in_the_next_round(
    name, tiny_scenario, play, plain, tmp_path
):
    before = of(plain, name)
    since = round(middle_s(before), 6)
    ends_s = max(one["end_ns"] for one in rows(plain) if one["round"] == 1) / NS_PER_S
    given = away(tmp_path, (1, since, since + ends_s), at_start="skip", on_leave="drop")
    scenario = tiny_scenario({**FEDERATED, "scheme.num_rounds": 4, **SLOW, **given})
    world = play(scenario)
    cut = of(world, name)
    assert cut["end_ns"] == round(since * NS_PER_S)
    assert cut["bits"] == pytest.approx(before["bits"] / 2, rel=1e-4)
    assert cut["flop"] == pytest.approx(before["flop"] / 2, rel=1e-4)
    assert metrics(world, "dropped") == [("client-1", 1, 1.0)]
    delivered = {round_: value for _, round_, value in metrics(world, "num_delivered")}
    taking_part = dict(zip(world.log.rounds.round, map(len, world.log.rounds.participants), strict=True))
    assert (delivered[1], taking_part[1]) == (2.0, 3)
    assert taking_part[2] == delivered[2] == 2
    assert taking_part[4] == delivered[4] == 3
    back = min(one["round"] for one in rows(world) if one["round"] > 1 and "client-1" in one["actor"])
    missed = of(world, "adapter_download", round_=back)
    assert missed["end_ns"] <= of(world, "client_forward_backward", round_=back)["start_ns"]


def test_a_round_begins_without_those_who_are_away_and_waits_for_the_first_if_all_are(
    tiny_scenario, play, tmp_path
):
    given = away(tmp_path, (0, 0, 900), (1, 0, 0.5), (2, 0, 700), at_start="skip")
    world = play(tiny_scenario({**FEDERATED, **given}))
    assert world.log.rounds.start_ns[0] == NS_PER_S // 2
    assert set(world.log.rounds.participants) == {("client-1",)}
    given = away(tmp_path, (0, 0, 0.7), (1, 0, 0.5))
    world = play(tiny_scenario({"scheme.num_rounds": 1, **given}))
    assert of(world, "client_forward", 0)["start_ns"] == 700_000_000
    assert of(world, "client_forward", 2)["start_ns"] == 0


def test_a_client_by_itself_waits_until_it_is_back(tiny_scenario, play, tmp_path):
    given = away(tmp_path, (1, 0, 0.5))
    world = play(
        tiny_scenario({"scheme": {"kind": "asynchronous", "num_rounds": 6, "local_steps": 1}, **given})
    )
    assert min(one["start_ns"] for one in rows(world) if one["actor"] == "client-1") == NS_PER_S // 2
    assert min(one["start_ns"] for one in rows(world) if one["actor"] == "client-2") == 0


def test_a_server_that_restarts_computes_and_receives_again(tiny_scenario, play):
    slow = {"scheme.num_rounds": 1, "scheme.local_steps": 1, "main_server.flop_per_cycle": 0.001}
    before = play(tiny_scenario(slow))
    served = next(one for one in rows(before) if one["name"] == "server_forward_backward")
    upload = of(before, "activation_upload", 2)
    for span, name in ((served, "server_forward_backward"), (upload, "activation_upload")):
        down = round(middle_s(span), 6)
        restarts = [{"at_s": down, "downtime_s": 2.0}]
        world = play(tiny_scenario({**slow, "main_server.restarts": restarts}))
        again = next(one for one in rows(world) if (one["name"], one["actor"]) == (name, span["actor"]))
        lost_ns = round(down * NS_PER_S) - span["start_ns"]
        assert lasts_ns(again) == lasts_ns(span) + 2 * NS_PER_S + lost_ns
        assert again["delivered"]
    told = "main-server goes down at"
    assert any(
        told in note for note in prepare(tiny_scenario({**slow, "main_server.restarts": restarts})).notes
    )


def test_renewals_are_in_equilibrium_from_the_beginning_and_exponential(tiny_scenario):
    from cosim.compute.availability.renewal import Renewal
    from cosim.kernel.presence import Comings
    from cosim.rng import stream

    part, at_ns = Renewal(mean_on_s=3.0, mean_off_s=1.0), (0, NS_PER_S, 10 * NS_PER_S)
    here = np.zeros((1000, 3))
    times = []
    for client in range(len(here)):
        comings = Comings("one", part.times_away(client, stream(1, "availability", client)), "resume")
        here[client] = [comings.back_ns(now) == now for now in at_ns]
        one = part.times_away(client, stream(1, "availability", client))
        next(one)
        times.append(np.diff([*next(one)])[0] / NS_PER_S)
    assert np.abs(here.mean(axis=0) - 0.75).max() < 5.0 * np.sqrt(0.75 * 0.25 / len(here))
    assert abs(np.mean(times) - 1.0) < 5.0 / np.sqrt(len(times))
    assert abs(np.mean(np.array(times) > 1.0) - np.exp(-1.0)) < 5.0 * 0.5 / np.sqrt(len(times))


@pytest.mark.parametrize("medium", ["fluid", "slotted"])
@pytest.mark.parametrize("on_leave", ["resume", "restart", "drop"])
def test_every_span_explains_itself_with_its_pauses(on_leave, medium, tiny_scenario, tmp_path):
    given = {"kind": "renewal", "mean_on_s": 0.02, "mean_off_s": 0.01, "on_leave": on_leave}
    scheme = {}
    if on_leave == "drop":
        given, scheme = given | {"at_start": "skip"}, {"kind": "federated"}
    scenario = tiny_scenario(
        {
            "scheme": {**scheme, "num_rounds": 1, "local_steps": 1},
            "availability": given,
            "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.001},
            "clients.flop_per_cycle": 0.5,
            "radio.main_uplink.bandwidth_hz": 5e5 if medium == "fluid" else 4e6,
            "radio.antenna_gain_db": 10.0 if medium == "fluid" else -20.0,
            "radio.medium": {"kind": medium},
        }
    )
    record = Record.open(run(scenario, tmp_path / "run", timing_only=True))
    spans = record.spans.to_pylist()
    away_s = [one["value"] for one in record.metrics.to_pylist() if one["name"] == "away_s"]
    assert len(away_s) > 2 or on_leave == "drop"
    for span in spans:
        slack_ns = len(away_s) if span["kind"] == "transfer" else 0
        assert abs(explain(record, span["id"]).expected_end_ns - span["end_ns"]) <= slack_ns


@pytest.mark.parametrize("on_leave", ["resume", "restart"])
def test_what_is_sent_to_all_waits_for_all(on_leave, tiny_scenario, tmp_path):
    given = {
        "scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 1, "downlink": "multicast"},
        "radio.federated_downlink": {"modelled": True, "bandwidth_hz": 1e4},
    }
    plain = Record.open(run(tiny_scenario(given), tmp_path / "plain", timing_only=True))
    (before,) = [one for one in plain.spans.to_pylist() if one["name"] == "adapter_download"]
    since = round(middle_s(before), 6)
    leaving = away(tmp_path, (1, since, since + 2.0), on_leave=on_leave)
    record = Record.open(run(tiny_scenario({**given, **leaving}), tmp_path / "run", timing_only=True))
    (after,) = [one for one in record.spans.to_pylist() if one["name"] == "adapter_download"]
    lost_ns = (round(since * NS_PER_S) - before["start_ns"]) * (on_leave == "restart")
    assert lasts_ns(after) == lasts_ns(before) + 2 * NS_PER_S + lost_ns
    assert explain(record, after["id"]).expected_end_ns == after["end_ns"]


def slotted_upload(play, tiny_scenario, **given):
    """Return the upload of client 1, whose failed blocks are repeated at once, and its slots."""
    world = play(
        tiny_scenario(
            {
                **FEDERATED,
                "scheme.num_rounds": 1,
                "radio.federated_uplink": {"bandwidth_hz": 1e6, "num_subchannels": 3},
                "radio.medium": {"kind": "slotted", "max_attempts": 1},
                **given,
            }
        )
    )
    own = {
        name: value for name in Spent._fields for who, _, value in metrics(world, name) if who == "client-1"
    }
    return of(world, "adapter_upload"), Spent.of(own), world


@pytest.mark.parametrize("on_leave", ["resume", "restart", "drop"])
def test_a_slotted_transfer_leaves_with_its_slot_and_comes_back_with_the_next(
    on_leave, tiny_scenario, play, tmp_path
):
    slot_ns = 1_000_000
    before, sent, _ = slotted_upload(play, tiny_scenario)
    assert lasts_ns(before) == sent.num_blocks * slot_ns > 20 * slot_ns
    leaves_ns = before["start_ns"] + 10 * slot_ns - 400_000
    edge_ns, since = leaves_ns + 400_000, leaves_ns / NS_PER_S
    given = away(
        tmp_path,
        (1, since, since + 0.25),
        on_leave=on_leave,
        at_start="skip" if on_leave == "drop" else "wait",
    )
    after, spent, world = slotted_upload(play, tiny_scenario, **given)
    each_j = before["energy_j"] / sent.num_blocks
    assert after["energy_j"] == pytest.approx(each_j * spent.num_blocks)
    if on_leave == "drop":
        assert (after["end_ns"], after["delivered"], spent.num_blocks) == (edge_ns, False, 10)
        assert 0 < after["bits"] < before["bits"]
        assert metrics(world, "dropped") == [("client-1", 1, 1.0)]
        return
    assert metrics(world, "away_s") == [("client-1", 1, 0.25)]
    assert spent.num_away_slots == 250
    assert lasts_ns(after) == (spent.num_blocks + 250) * slot_ns
    assert after["bits"] == before["bits"]
    if on_leave == "restart":
        assert after["resent_bits"] > 10 / sent.num_blocks * before["bits"] * 0.5
        assert spent.num_blocks > sent.num_blocks
    else:
        assert abs(spent.num_blocks - sent.num_blocks) <= 3 + spent.num_failed_blocks


@pytest.mark.parametrize("on_leave", ["resume", "restart"])
def test_a_sum_that_a_sender_leaves_begins_again_when_it_is_back(on_leave, tiny_scenario, tmp_path):
    still = {**FEDERATED, "scheme.num_rounds": 1, "radio.medium": {"kind": "over_the_air"}}
    still |= {"radio.federated_uplink": {"bandwidth_hz": 9e4, "num_subchannels": 3}}
    still |= {"radio.fading": {"kind": "none"}}
    plain = Record.open(run(tiny_scenario(still), tmp_path / "plain", timing_only=True))
    (before,) = [one for one in plain.spans.to_pylist() if one["name"] == "adapter_upload"]
    since = round(middle_s(before), 7)
    given = away(tmp_path, (1, since, since + 2.0), (2, since + 2.0, since + 3.0), on_leave=on_leave)
    record = Record.open(run(tiny_scenario({**still, **given}), tmp_path / "run", timing_only=True))
    (after,) = [one for one in record.spans.to_pylist() if one["name"] == "adapter_upload"]
    lost_ns = round(since * NS_PER_S) - before["start_ns"]
    symbol_ns = tiny_scenario(still).radio.medium.symbol_ns
    waits_ns = lasts_ns(after) - lasts_ns(before) - lost_ns - 3 * NS_PER_S
    assert 0 <= waits_ns < symbol_ns
    lost = lost_ns / lasts_ns(before)
    assert after["energy_j"] == pytest.approx((1.0 + lost) * before["energy_j"], rel=1e-6)
    assert after["resent_bits"] == pytest.approx(lost * before["bits"], rel=1e-6)
    assert explain(record, after["id"]).expected_end_ns == after["end_ns"]


FAULTS = {
    "unknown": ([(7, 1, 2)], {}, {}, "line 2: there is no client 7; there are clients 0 to 2"),
    "backwards": (
        [(1, 3, 2)],
        {},
        {},
        "line 2: client 1 is away from 3 to 2 s; it must leave at 0 s or later",
    ),
    "unsorted": (
        [(1, 3, 4), (1, 1, 2)],
        {},
        {},
        "line 3: client 1 leaves at 1 s, and is back from the time before at 4",
    ),
    "no number": ([(1, "x", 4)], {}, {}, "line 2: away_s is 'x', and must be a finite number"),
    "split drop": (
        [],
        {"at_start": "skip", "on_leave": "drop"},
        {},
        "'drop' loses what is sent over main_uplink",
    ),
    "no rounds": (
        [],
        {"at_start": "skip"},
        {"scheme": {"kind": "asynchronous"}},
        "set 'wait', or take a scheme that has",
    ),
    "sums": (
        [],
        {"at_start": "skip", "on_leave": "drop"},
        {**FEDERATED, "radio.medium": {"kind": "over_the_air"}},
        "nobody's part can be given up by itself; set 'restart'",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_is_one_line(name, tiny_scenario, tmp_path):
    times, given, more, message = FAULTS[name]
    (line,) = check(tiny_scenario({**more, **away(tmp_path, *(times or [(0, 1, 2)]), **given)}))
    assert message in line
    assert "\n" not in line


def test_who_never_comes_back_and_is_waited_for_is_one_line(tiny_scenario, play, tmp_path):
    with pytest.raises(
        ScenarioError, match=r"client-1: has left at .* never comes back, and is waited for; let it"
    ):
        play(tiny_scenario({**FEDERATED, **away(tmp_path, (1, 0.001, ""))}))
    with pytest.raises(ScenarioError, match="on_leave = 'drop' was given with at_start = 'wait'"):
        tiny_scenario({**FEDERATED, **away(tmp_path, (1, 1, 2), on_leave="drop")})
    restarts = [{"at_s": 1.0, "downtime_s": 5.0}, {"at_s": 2.0, "downtime_s": 1.0}]
    with pytest.raises(ScenarioError, match="begins before the one at 1 s is over, after 5 s; sort them"):
        tiny_scenario({"federated_server.restarts": restarts})
