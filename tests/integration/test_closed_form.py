"""With still gains and free queues the measured timeline is the closed form of FedsLLM, to the nanosecond.

The closed form is written out here from the numbers of the scenario: Shannon's rate, the path loss,
the FLOP of GPT-2, bits, and three barriers a step. Nothing of the simulator is called for it.
"""

from collections import defaultdict
from fractions import Fraction
from math import ceil, hypot, log2, log10

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECOND = 10**9
SLACK = Fraction(1, 10**12)  # what the rounding of a rate in floats may move an instant by, relative

positions = st.tuples(st.floats(30.0, 500.0), st.floats(-500.0, 500.0))
"""A client's place, m."""


@st.composite
def cuts(draw, num_clients, num_layers):
    """Return the cut of each client: mostly the same, and sometimes each its own."""
    one = st.integers(1, num_layers - 1)
    if draw(st.booleans()):
        return draw(st.lists(one, min_size=num_clients, max_size=num_clients))
    return [draw(one)] * num_clients


@st.composite
def cells(draw):
    """Return the numbers of a scenario, as its author would choose them."""
    num_clients = draw(st.integers(1, 5))
    heads = draw(st.sampled_from([1, 2, 4]))
    num_layers = draw(st.integers(2, 6))
    each = {"min_size": num_clients, "max_size": num_clients}
    link = st.fixed_dictionaries(
        {
            "num_subchannels": st.integers(num_clients, 24),
            "bandwidth_hz": st.floats(1e5, 5e7),
            "max_total_tx_power_dbm": st.floats(10.0, 40.0),
        }
    )
    downlink = st.fixed_dictionaries(
        {
            "num_subchannels": st.integers(num_clients, 24),
            "bandwidth_hz": st.floats(1e5, 5e7),
            "tx_power_dbm": st.floats(10.0, 46.0),
            "modelled": st.booleans(),
        }
    )
    return {
        "num_clients": num_clients,
        "num_layers": num_layers,
        "width": heads * 4 * draw(st.integers(1, 6)),
        "heads": heads,
        "vocabulary_size": draw(st.integers(300, 3000)),
        "cut_layers": draw(cuts(num_clients, num_layers)),
        "rank": draw(st.integers(1, 9)),
        "all_linear": draw(st.booleans()),
        "dtype": draw(st.sampled_from(["float32", "float64", "bfloat16"])),
        "batch_size": draw(st.integers(1, 5)),
        "length": draw(st.integers(4, 48)),
        "num_rounds": draw(st.integers(1, 3)),
        "local_steps": draw(st.integers(1, 3)),
        "positions": draw(st.lists(positions, **each)),
        "clock_hz": draw(st.lists(st.floats(1e5, 3e9), **each)),
        "flop_per_cycle": draw(st.lists(st.floats(0.5, 64.0), **each)),
        "power_dbm": draw(st.lists(st.floats(0.0, 30.0), **each)),
        "server_hz": draw(st.floats(1e7, 5e9)),
        "server_flop_per_cycle": draw(st.floats(1.0, 2000.0)),
        "noise_figure_db": draw(st.floats(0.0, 12.0)),
        "antenna_gain_db": draw(st.floats(0.0, 20.0)),
        "links": {
            "main_uplink": draw(link),
            "federated_uplink": draw(link),
            "main_downlink": draw(downlink),
            "federated_downlink": draw(downlink),
        },
    }


def scenario_of(numbers, tiny_scenario):
    base = tiny_scenario().model.base
    config = {
        **base.config,
        "n_layer": numbers["num_layers"],
        "n_embd": numbers["width"],
        "n_head": numbers["heads"],
        "vocab_size": numbers["vocabulary_size"],
    }
    clients = [
        {"count": 1, "clock_hz": hz, "flop_per_cycle": flop, "max_tx_power_dbm": power}
        for hz, flop, power in zip(
            numbers["clock_hz"], numbers["flop_per_cycle"], numbers["power_dbm"], strict=True
        )
    ]
    if len(set(numbers["cut_layers"])) > 1:
        clients = [{**one, "cut_layer": cut} for one, cut in zip(clients, numbers["cut_layers"], strict=True)]
    server = {"clock_hz": numbers["server_hz"], "flop_per_cycle": numbers["server_flop_per_cycle"]}
    changes = {
        "model.base.config": config,
        "model.cut_layer": numbers["cut_layers"][0],
        "model.dtype": numbers["dtype"],
        "lora.rank": numbers["rank"],
        "training.batch_size": numbers["batch_size"],
        "data.sequence_length": numbers["length"],
        "scheme.num_rounds": numbers["num_rounds"],
        "scheme.local_steps": numbers["local_steps"],
        "clients": clients,
        "main_server": server,
        "radio.placement": {"kind": "given", "positions_m": numbers["positions"]},
        "radio.shadowing": {"kind": "none"},
        "radio.noise_figure_db": numbers["noise_figure_db"],
        "radio.antenna_gain_db": numbers["antenna_gain_db"],
        **{f"radio.{name}": link for name, link in numbers["links"].items()},
    }
    if numbers["all_linear"]:
        changes["lora.target_modules"] = ["all-linear"]
    return tiny_scenario(changes)


def amounts_of(numbers, client):
    """FLOP and bits of each piece of a client's work, FedsLLM section 4; the server's for its mini-batch."""
    n, d, b = numbers["length"], numbers["width"], numbers["batch_size"]
    cut, r = numbers["cut_layers"][client], numbers["rank"]
    rest = numbers["num_layers"] - cut
    sig = 16 if numbers["all_linear"] else 4
    bits = {"float32": 32, "float64": 64, "bfloat16": 16}[numbers["dtype"]]
    forward = 24 * n * d**2 + 4 * n**2 * d + 2 * n * sig * d * r
    backward = 24 * n * d**2 + 8 * n**2 * d + 4 * n * sig * d * r
    first_block = 6 * n * d**2 + 2 * n * d * r
    head = 2 * n * d * numbers["vocabulary_size"]
    server = rest * (forward + backward) + 2 * head
    return {
        "client_forward": b * cut * forward,
        "client_backward": b * (cut * backward - first_block),
        "server_forward_backward": b * server,
        "activation_upload": b * n * d * bits,
        "gradient_download": b * n * d * bits,
        "adapter_upload": cut * sig * d * r * max(bits, 32),  # beside bfloat16 an adapter is float32
        "adapter_download": cut * sig * d * r * max(bits, 32),
        "aggregate": 0,
    }


def server_flop_of(numbers):
    """FLOP of the joint batch, each mini-batch from its client's cut on."""
    clients = range(numbers["num_clients"])
    return sum(amounts_of(numbers, client)["server_forward_backward"] for client in clients)


def rate_of(numbers, link_name, client):
    """Shannon over a round robin share at even power; None where a link is free."""
    link, num_clients = numbers["links"][link_name], numbers["num_clients"]
    if not link.get("modelled", True):
        return None
    if "tx_power_dbm" in link:
        power = 10 ** ((link["tx_power_dbm"] - 30) / 10) / num_clients
    else:
        limits = [10 ** ((dbm - 30) / 10) for dbm in numbers["power_dbm"]]
        total = 10 ** ((link["max_total_tx_power_dbm"] - 30) / 10)
        power = limits[client] * min(1.0, total / sum(limits))
    owned = len(range(client, link["num_subchannels"], num_clients))
    width = link["bandwidth_hz"] / link["num_subchannels"]
    loss_db = 128.1 + 37.6 * log10(hypot(*numbers["positions"][client]) / 1000)
    gain = 10 ** ((numbers["antenna_gain_db"] - loss_db) / 10)
    noise = 10 ** ((-174 + numbers["noise_figure_db"] - 30) / 10)
    return owned * width * log2(1 + power / owned / width * gain / noise)


def durations_of(numbers):
    """Return the nanoseconds of each piece of work as exact fractions, by (name, client)."""
    spans = {}
    links = {
        "activation_upload": "main_uplink",
        "gradient_download": "main_downlink",
        "adapter_upload": "federated_uplink",
        "adapter_download": "federated_downlink",
    }
    for client in range(numbers["num_clients"]):
        amounts = amounts_of(numbers, client)
        speed = numbers["clock_hz"][client] * numbers["flop_per_cycle"][client]
        for name in ("client_forward", "client_backward"):
            spans[name, client] = Fraction(amounts[name]) * SECOND / Fraction(speed)
        for name, link in links.items():
            rate = rate_of(numbers, link, client)
            spans[name, client] = (
                Fraction(0) if rate is None else Fraction(amounts[name]) * SECOND / Fraction(rate)
            )
    server = numbers["server_hz"] * numbers["server_flop_per_cycle"]
    spans["server_forward_backward", None] = Fraction(server_flop_of(numbers)) * SECOND / Fraction(server)
    spans["aggregate", None] = Fraction(0)
    return spans


def rows_of(world):
    spans = world.log.spans
    spans.settle()
    for row in range(len(spans)):
        ends = (spans.actor[row], spans.peer[row])
        client = next((int(one[7:]) for one in ends if one.startswith("client-")), None)
        yield (
            spans.round[row],
            spans.local_step[row],
            spans.name[row],
            client,
            spans.asked_ns[row],
            spans.start_ns[row],
            spans.end_ns[row],
        )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(numbers=cells())
def test_every_span_and_every_round_lasts_as_long_as_the_closed_form_says(numbers, tiny_scenario, play):
    world = play(scenario_of(numbers, tiny_scenario))
    exact = durations_of(numbers)
    measured, round_ends = {}, defaultdict(int)
    for round_, local_step, name, client, asked, start, end in rows_of(world):
        assert asked == start  # nobody queues
        ideal = exact[name, client]
        assert ceil(ideal * (1 - SLACK)) <= end - start <= ceil(ideal * (1 + SLACK)), (name, client)
        measured[round_, local_step, name, client] = end - start
        round_ends[round_] = max(round_ends[round_], end)

    clients = range(numbers["num_clients"])
    now = 0
    for round_ in range(1, numbers["num_rounds"] + 1):
        for local_step in range(1, numbers["local_steps"] + 1):

            def took(name, client, at=(round_, local_step)):
                return measured[*at, name, client]

            now += max(took("client_forward", k) + took("activation_upload", k) for k in clients)
            now += took("server_forward_backward", None)
            now += max(took("gradient_download", k) + took("client_backward", k) for k in clients)
        now += max(measured[round_, 0, "adapter_upload", k] for k in clients)
        now += max(measured[round_, 0, "adapter_download", k] for k in clients)
        assert round_ends[round_] == now
    assert world.clock.now == now
    every_span_carries_the_amount_of_the_closed_form(numbers, world.log.spans)


def every_span_carries_the_amount_of_the_closed_form(numbers, spans):
    spans.settle()
    for row, name in enumerate(spans.name):
        ends = (spans.actor[row], spans.peer[row])
        client = next((int(one[7:]) for one in ends if one.startswith("client-")), 0)
        amount = amounts_of(numbers, client)[name]
        if name == "server_forward_backward":
            amount = server_flop_of(numbers)
        is_transfer = spans.kind[row] == "transfer"
        assert (spans.bits[row], spans.flop[row]) == ((amount, 0) if is_transfer else (0, amount))


def test_the_numbers_of_the_method_card_come_out(tiny_scenario, play):
    """GPT-2 small at n = 512 and r = 4: 12.58 Mbit of activations and 12 288 adapter numbers a block."""
    gpt2 = {"n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
    config = {**tiny_scenario().model.base.config, **gpt2}
    scenario = tiny_scenario(
        {
            "model.base.config": config,
            "model.cut_layer": 6,
            "data.sequence_length": 512,
            "training.batch_size": 1,
            "scheme.num_rounds": 1,
            "scheme.local_steps": 1,
        }
    )
    spans = play(scenario).log.spans
    spans.settle()
    bits, flop = (
        dict(zip(spans.name, spans.bits, strict=True)),
        dict(zip(spans.name, spans.flop, strict=True)),
    )
    assert bits["activation_upload"] == 12_582_912
    assert bits["adapter_upload"] == 6 * 12_288 * 32
    assert flop["client_forward"] == 48_393_879_552
    assert flop["server_forward_backward"] == pytest.approx(3 * 180.742e9, rel=1e-4)
