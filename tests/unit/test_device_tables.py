"""Device tables: what a row says holds for its client, and a table that cannot be used is one line."""

import pytest

from cosim.errors import ScenarioError
from cosim.scenario.build import check, prepare
from cosim.scenario.load import load, run_hash, to_toml

FEDERATED = {"scheme": {"kind": "federated", "num_rounds": 1, "local_steps": 2}}


def table(tmp_path, *lines):
    (tmp_path / "devices.csv").write_text("\n".join(lines) + "\n")
    return {"clients.table": str(tmp_path / "devices.csv")}


def test_a_row_takes_the_place_of_the_settings_of_its_group(tiny_scenario, tmp_path):
    lines = (
        "client,device,clock_hz,flop_per_s,max_tx_power_dbm,memory_bytes,energy_coefficient",
        "2,old,1e9,4e9,10,3e9,2e-28",
        "0,new,2e9,1e10,20,8e9,1e-28",
        "1,newer,3e9,9e9,15,9e9,0",
    )
    prepared = prepare(tiny_scenario(table(tmp_path, *lines)))
    assert [device.clock_hz for device in prepared.clients] == [2e9, 3e9, 1e9]
    assert [device.flop_per_s for device in prepared.clients] == [1e10, 9e9, 4e9]
    assert [device.memory_bytes for device in prepared.clients] == [8e9, 9e9, 3e9]
    assert [device.energy_coefficient for device in prepared.clients] == [1e-28, 0.0, 2e-28]
    assert prepared.max_tx_power_w == pytest.approx([0.1, 10**-1.5, 0.01])


def test_measured_seconds_take_the_place_of_flop_over_speed_and_are_predicted(tiny_scenario, play, tmp_path):
    lines = ("client,client_forward_backward_s", "0,0.25", "1,", "2,0.125")
    scenario = tiny_scenario({**FEDERATED, **table(tmp_path, *lines)})
    world, prepared = play(scenario), prepare(scenario)
    spans = world.log.spans
    spans.settle()
    took = {}
    for at, name in enumerate(spans.name):
        if name == "client_forward_backward":
            took.setdefault(spans.actor[at], set()).add(spans.end_ns[at] - spans.start_ns[at])
    assert took["client-0"] == {250_000_000}
    assert took["client-2"] == {125_000_000}
    (unmeasured,) = took["client-1"]
    assert unmeasured == prepared.clients[1].duration_ns(int(spans.flop[0]))
    device = prepared.clients[0]
    assert device.energy_j(9, "client_forward_backward") == pytest.approx(1e-28 * device.clock_hz**3 * 0.25)
    told = [note for note in prepared.notes if "client_forward_backward takes the seconds" in note]
    assert told == [
        "client_forward_backward takes the seconds that clients.table gives of 2 client(s), in place of FLOP "
        "over speed."
    ]
    noted = {name: value for name, value in zip(world.log.metrics.name, world.log.metrics.value, strict=True)}
    assert noted["predicted_round_s"] == pytest.approx(max(spans.end_ns) / 1e9, abs=1e-8)


def test_an_allocator_that_plans_with_flop_refuses_measured_seconds(tiny_scenario, tmp_path):
    lines = ("client,client_forward_s", "0,0.25", "1,0.5", "2,0.125")
    (line,) = check(tiny_scenario({"allocator": {"kind": "fedsllm"}, **table(tmp_path, *lines)}))
    assert "clients.table has measured seconds (client_forward_s); leave these columns out, or take" in line


def test_a_table_gives_the_number_of_clients_and_counts_by_its_content(tmp_path):
    table(tmp_path, "client,clock_hz", "0,1e9", "1,2e9")
    file = tmp_path / "some.toml"
    file.write_text('[clients]\ntable = "devices.csv"\n')
    scenario = load(file)
    assert scenario.num_clients == 2
    file.write_text(to_toml(scenario))
    assert load(file).num_clients == 2
    known = run_hash(scenario)
    table(tmp_path, "client,clock_hz", "0,1e9", "1,3e9")
    assert run_hash(scenario) != known
    file.write_text('[clients]\ntable = "nowhere.csv"\n')
    with pytest.raises(
        ScenarioError, match=r"some.toml: clients.table: .*nowhere.csv cannot be read: No such"
    ):
        load(file)


FAULTS = {
    "no client": (("clock_hz", "1e9"), "has no column 'client'; it needs client"),
    "nothing else": (
        ("client,device", "0,x", "1,y", "2,z"),
        "has no column beside client; it needs one at least of",
    ),
    "unknown": (
        ("client,clock_ghz", "0,1"),
        "has the column 'clock_ghz', which nothing is known of; known: clock_hz",
    ),
    "twice": (
        ("client,clock_hz", "0,1e9", "1,1e9", "1,2e9"),
        "line 4: client 1 has a row already; keep one",
    ),
    "gap": (
        ("client,clock_hz", "0,1e9", "2,1e9"),
        "has no row of client 1; count from 0 without gaps",
    ),
    "not positive": (
        ("client,clock_hz", "0,1e9", "1,-2", "2,1e9"),
        "line 3: clock_hz is -2; a device has 1e-09 to",
    ),
    "not measured": (
        ("client,client_forward_s", "0,0", "1,", "2,"),
        "line 2: client_forward_s is 0; a device has",
    ),
    "no number": (("client,clock_hz", "0,fast"), "line 2: clock_hz is 'fast', and must be a finite number"),
    "no clock": (("client,flop_per_s", "0,1e9"), "flop_per_s, which needs the column 'clock_hz'"),
    "count": (("client,clock_hz", "0,1e9"), "clients.count: it is 3, and"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_table_that_cannot_be_used_is_one_line(name, tiny_scenario, tmp_path):
    lines, message = FAULTS[name]
    (line,) = check(tiny_scenario(table(tmp_path, *lines)))
    assert "devices.csv" in line
    assert "\n" not in line
    assert message in line
