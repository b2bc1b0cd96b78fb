"""What several clients send or receive at once is one span: counted once, and to be had of each client."""

import pytest

from cosim.cli import answer
from cosim.graph.node import Node
from cosim.radio.medium.delivery import Delivery, Payload
from cosim.record.folder import Record
from cosim.report.summary import summarise
from cosim.runs import run
from cosim.studies.measures.bits import Bits
from cosim.studies.measures.energy_j import EnergyJ
from cosim.transmissions import Outgoing, Transmissions
from cosim.world import Moment, World

SCHEME = {
    "kind": "federated",
    "num_rounds": 3,
    "local_steps": 1,
    "participation": 0.6,
    "downlink": "multicast",
}
AIR = {
    "scheme": SCHEME,
    "seed": 2,
    "clients.count": 4,
    "radio.medium": {"kind": "over_the_air", "truncation_db": -5.0},
    "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.002},
    "radio.federated_downlink.modelled": True,
}


@pytest.fixture(scope="module")
def record(tiny_scenario, tmp_path_factory):
    return Record.open(run(tiny_scenario(AIR), tmp_path_factory.mktemp("runs") / "run"))


def named(record, name):
    return [row for row in record.spans.to_pylist() if row["name"] == name]


def radiated_j(record):
    rows = [row for row in record.metrics.to_pylist() if row["name"] == "tx_energy_j"]
    return {(row["time_ns"], row["actor"]): row["value"] for row in rows}


def test_a_sum_is_one_span_with_the_causes_of_all_its_senders(record):
    rows, taking_part = record.spans.to_pylist(), record.rounds["participants"].to_pylist()
    for upload, clients in zip(named(record, "adapter_upload"), taking_part, strict=True):
        assert (upload["actor"], upload["peer"]) == ("", "federated-server")
        assert upload["participants"] == clients
        trained = [rows[cause] for cause in upload["parents"]]
        assert [one["actor"] for one in trained if one["name"] == "client_forward_backward"] == clients
        assert len(set(upload["parents"])) == len(upload["parents"])
        assert upload["asked_ns"] == max(one["end_ns"] for one in trained)


def test_what_each_radiated_adds_up_to_the_energy_of_the_sum(record):
    of_each = radiated_j(record)
    assert 0.0 in of_each.values()  # somebody is silent
    for upload in named(record, "adapter_upload"):
        shares = [of_each[upload["end_ns"], client] for client in upload["participants"]]
        assert sum(shares) == pytest.approx(upload["energy_j"])
        assert upload["delivered"] == any(shares)
    assert len(of_each) == sum(len(upload["participants"]) for upload in named(record, "adapter_upload"))


def test_the_work_of_a_sum_is_what_arrives(record, tiny_scenario, play):
    uploads = named(record, "adapter_upload")
    assert {len(upload["node"]) for upload in uploads} == {32}
    louder = play(tiny_scenario({**AIR, "radio.noise_figure_db": 30.0}))
    louder.log.spans.settle()
    assert not {upload["node"] for upload in uploads} & set(louder.log.spans.node)
    trained = {row["node"] for row in named(record, "client_forward_backward")}
    assert not {upload["node"] for upload in uploads} & trained


def test_energy_bits_and_time_are_counted_once_and_right_for_each_client(record):
    summary = summarise(record)
    total_j = EnergyJ().of(record)
    clients = [f"client-{client}" for client in range(4)]
    of_clients = [EnergyJ(actor=client).of(record) for client in clients]
    assert sum(of_clients) == pytest.approx(EnergyJ(actor="client").of(record))
    assert sum(summary.energy_j.values()) == pytest.approx(total_j)
    assert sum(of_clients) + EnergyJ(actor="federated-server").of(record) == pytest.approx(total_j)
    up, down = named(record, "adapter_upload"), named(record, "adapter_download")
    assert len(up) == len(down) == 3
    assert Bits().of(record) == 6 * up[0]["bits"]
    for use, client in zip(summary.clients, clients, strict=True):
        mine = [one for one in (*up, *down) if client in one["participants"]]
        assert use.air_ns == sum(one["end_ns"] - one["start_ns"] for one in mine)


def test_every_view_shows_a_transmission_of_several(record, tmp_path, capsys):
    views = [f"{tmp_path}/run.{kind}" for kind in ("png", "html")]
    assert answer(["timeline", str(record.path), "--png", views[0], "--html", views[1]]) == 0
    assert answer(["compare", str(record.path), str(record.path)]) == 0
    capsys.readouterr()
    for name, shown in (("adapter_upload", "as amplitudes"), ("adapter_download", "weakest receiver")):
        for span in named(record, name):
            assert answer(["explain", str(record.path), str(span["id"])]) == 0
            out = capsys.readouterr().out
            assert shown in out
            assert out.count("the same to the nanosecond") == 1
            assert f"participants           {', '.join(span['participants'])}\n" in out


def test_a_controller_is_told_what_came_of_each_client(tiny_scenario, play):
    world = play(tiny_scenario({**AIR, "scheme.participation": 1.0, "scheme.num_rounds": 1}))
    log = world.log.metrics
    rows = zip(log.name, log.actor, log.value, strict=True)
    of_each = {actor: value for name, actor, value in rows if name == "tx_energy_j"}
    outcomes = world.decisions.state(world.clock.now, 2).outcomes
    assert [one.energy_j for one in outcomes] == list(of_each.values())
    assert [one.delivered for one in outcomes] == [value > 0.0 for value in of_each.values()]
    assert any(one.delivered for one in outcomes)
    assert not all(one.delivered for one in outcomes)


@pytest.mark.parametrize(
    ("link", "is_delivered"), [("federated_uplink", True), ("federated_downlink", False)]
)
def test_one_transmission_has_one_size_and_says_whether_it_arrived(
    link, is_delivered, tiny_scenario, play, monkeypatch
):
    world: World = play(tiny_scenario({"scheme": SCHEME}))
    node = world.adapter.node
    other = Node(node.operation, (), {}, "f" * 32, 0)

    def half_of_it(now_ns, clients):
        return Delivery(now_ns, now_ns, now_ns, {0: 1.0, 1: 2.0}, {0: True, 1: False}, resent_bits=3)

    def sends(bits, *nodes):
        outgoing = {
            client: Outgoing(Payload(size), one, [0, client + 1])
            for client, (size, one) in enumerate(zip(bits, nodes, strict=True))
        }
        return world.send_at_once(link, "made_up", Moment(1), outgoing)

    with pytest.raises(ValueError, match=r"made_up: one transmission has one size, and payloads have \[8, 9"):
        next(sends((8, 9), node, node))
    monkeypatch.setattr(Transmissions, "is_modelled", lambda self, link: False)
    monkeypatch.setattr(Delivery, "at_once", half_of_it)
    works = []
    for nodes in ((node, node), (node, other), (other, node)):
        with pytest.raises(StopIteration) as ended:
            next(sends((8, 8), *nodes))
        spans, span = world.log.spans, ended.value.value.span
        spans.settle()
        assert spans.extras[span] == (is_delivered, 3, ("client-0", "client-1"))
        assert spans.parents[spans.parents_end[span - 1] :].tolist() == [0, 1, 2]
        assert (spans.bits[span], spans.energy_j[span]) == (8, 3.0)
        works.append(spans.node[span])
    assert works[0] == node.key
    assert {len(work) for work in works} == {32}
    assert len({*works, other.key}) == 4
