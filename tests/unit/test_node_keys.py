"""The key of a work moves with everything that decides its value, and with nothing else."""

from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosim.graph import node
from cosim.graph.code_identity import code_key
from cosim.graph.node import Graph, Params
from cosim.graph.operation import operation, registered
from cosim.learning import training
from cosim.learning.aggregator.product_svd import ProductSvd
from cosim.learning.base.random import RandomBase
from cosim.learning.codec.top_k import TopK
from cosim.learning.data import tokens
from cosim.learning.data.embedded import Embedded
from cosim.learning.optimizer.adamw import AdamW
from cosim.learning.regularizer.orthogonality import Orthogonality
from cosim.learning.results import evaluate
from cosim.learning.training import Training
from cosim.scenario.build import prepare

GIVEN = {
    "kind": "given",
    "links": {
        "main_uplink": {"subchannels": [[0, 1, 2], [3], [4, 5]], "tx_power_w": [0.1, 0.05, [0.01, 0.02]]},
        "federated_uplink": {"subchannels": [[0], [1], [2]]},
    },
}

TIME_PLANE = {
    "name": {"name": "other", "description": "another one"},
    "bandwidth": {"radio.main_uplink.bandwidth_hz": 1e6},
    "subchannels": {"radio.federated_uplink.num_subchannels": 5},
    "fading": {"radio.fading": {"kind": "rician", "k_factor": 1.0, "coherence_time_s": 0.01}},
    "shadowing": {"radio.shadowing": {"kind": "none"}},
    "path loss": {"radio.path_loss": {"kind": "free_space", "carrier_hz": 2e9}},
    "placement": {"radio.placement": {"kind": "disc", "radius_m": 50.0}},
    "noise": {"radio.noise_figure_db": 3.0},
    "rate": {"radio.rate": {"kind": "shannon", "snr_gap_db": 3.0}},
    "access": {"radio.access.kind": "reassign"},
    "downlinks": {"radio.main_downlink.modelled": True},
    "link power": {"radio.main_uplink.max_total_tx_power_dbm": 20.0},
    "client power": {"clients.max_tx_power_dbm": 20.0},
    "clock": {"clients.clock_hz": 1e6, "clients.flop_per_cycle": 3.0},
    "queue": {"main_server.queue_capacity": 4},
    "memory": {"clients.memory_bytes": 1e9},
    "energy": {"clients.energy_coefficient": 1e-27},
    "random": {"allocator.kind": "random"},
    "in turn": {"allocator.kind": "time_shared"},
    "given": {"allocator": GIVEN},
    "evaluation": {"scheme.evaluate_every": 2, "training.evaluation_batch_size": 3},
    "auto device": {"model.device": "auto"},
}

VALUE_PLANE = {
    "cut": {"model.cut_layer": 2},
    "cut drawn": {"allocator": {"kind": "random", "randomise": ["cut_layer"]}, "seed": 1},
    "dtype": {"model.dtype": "float64"},
    "base seed": {"model.base.seed": 9},
    "task": {"model.task": "classification"},
    "rank": {"lora.rank": 3},
    "alpha": {"lora.alpha": 3.0},
    "dropout": {"lora.dropout": 0.1},
    "targets": {"lora.target_modules": ["c_attn", "c_fc"]},
    "learning rate": {"training.optimizer.learning_rate": 1.1e-3},
    "decay": {"training.optimizer.weight_decay": 0.02},
    "clipping": {"training.optimizer.max_grad_norm": 1.0},
    "optimiser": {"training.optimizer.kind": "sgd"},
    "batch": {"training.batch_size": 3},
    "length": {"data.sequence_length": 40},
    "loss": {"data.loss_on": "all"},
    "prompt": {"data.prompt_end": " = "},
    "text": {"data.source.seed": 1},
    "amount": {"data.source.num_train": 41},
    "partition": {"data.partition": {"kind": "dirichlet", "alpha": 0.5, "by": "label"}},
    "seed": {"seed": 4},
    "clients": {"clients.count": 2},
    "schedule": {"training.optimizer.schedule": "linear"},
    "activation codec": {"scheme.activation_codec": {"kind": "float16"}},
    "gradient codec": {"scheme.gradient_codec": {"kind": "top_k"}},
    "adapter codec": {"scheme.adapter_codec": {"kind": "qsgd"}},
}


@pytest.fixture(scope="module")
def works_of(tiny_scenario, play):
    """Return the key of each piece of work by (round, local step, name, client), from a timing-only run.

    The unchanged scenario is played once.
    """

    def works(changes):
        if not changes and known:
            return known
        spans = play(tiny_scenario(changes)).log.spans
        spans.settle()
        columns = (spans.round, spans.local_step, spans.name, spans.actor, spans.peer)
        found = dict(zip(zip(*columns, strict=True), spans.node, strict=True))
        if not changes:
            known.update(found)
        return found

    known = {}
    return works


FEDERATED = {"kind": "federated", "num_rounds": 2, "regularizer": {"kind": "orthogonality"}}
OTHER_CODE = {
    "base": (RandomBase, {}),
    "source": (Embedded, {}),
    "optimiser": (AdamW, {}),
    "aggregator": (ProductSvd, {"scheme.aggregator": {"kind": "product_svd"}}),
    "regulariser": (Orthogonality, {"scheme": FEDERATED}),
    "codec": (TopK, {"scheme.adapter_codec": {"kind": "top_k"}}),
}


@pytest.mark.parametrize(("part", "changes"), OTHER_CODE.values(), ids=OTHER_CODE)
def test_other_code_of_a_part_moves_every_average(works_of, monkeypatch, part, changes):
    before = works_of({"seed": 3, **changes})  # said once more, so it is played again
    for module in (node, training, tokens):
        real = module.code_of
        other = lambda one, real=real: "other" if isinstance(one, part) else real(one)  # noqa: E731
        monkeypatch.setattr(module, "code_of", other)
    after = works_of({"seed": 3, **changes})
    averages = [at for at in before if at[2] == "aggregate"]
    assert averages
    assert all(before[at] != after[at] for at in averages)


@pytest.mark.parametrize("changes", TIME_PLANE.values(), ids=TIME_PLANE)
def test_radio_devices_and_allocators_move_no_key(works_of, changes):
    assert works_of(changes) == works_of({})


@pytest.mark.parametrize("changes", VALUE_PLANE.values(), ids=VALUE_PLANE)
def test_what_decides_the_numbers_moves_every_average(works_of, changes):
    before, after = works_of({}), works_of(changes)
    averages = [at for at in before if at[2] == "aggregate"]
    assert len(averages) == 2
    assert all(before[at] != after[at] for at in averages)


def test_who_serves_the_clients_moves_no_key_of_theirs(works_of):
    joint, each = works_of({}), works_of({"scheme.server_batch": "per_client"})
    clients = [at for at in joint if at[2] != "server_forward_backward"]
    assert all(joint[at] == each[at] for at in clients)


def test_each_piece_of_work_has_a_key_of_its_own(works_of):
    works = works_of({})
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in works.values())
    computed = [
        key for at, key in works.items() if at[2] in ("client_forward", "client_backward", "aggregate")
    ]
    assert len(set(computed)) == len(computed)


def test_a_transfer_carries_the_key_of_what_it_carries(works_of):
    works = works_of({})
    for (round_, step, name, actor, _), key in works.items():
        if name == "activation_upload":
            assert key == works[round_, step, "client_forward", actor, ""]
        if name == "adapter_download":
            assert key == works[round_, 0, "aggregate", "federated-server", ""]


def test_an_encoded_transfer_carries_the_key_of_what_arrives(works_of):
    """The server's key depends on what it decodes; the client's forward pass does not."""
    plain, encoded = works_of({}), works_of({"scheme.activation_codec": {"kind": "qsgd"}})
    first = [at for at in plain if at[:2] == (1, 1)]
    moved = {at[2] for at in first if plain[at] != encoded[at]}
    assert moved == {"activation_upload", "server_forward_backward", "gradient_download", "client_backward"}
    uploads = [encoded[at] for at in encoded if at[2] == "activation_upload"]
    assert len(set(uploads)) == len(uploads)


def test_no_codec_is_no_work(works_of):
    none = {f"scheme.{name}_codec": {"kind": "none"} for name in ("activation", "gradient", "adapter")}
    assert works_of(none) == works_of({})


def test_the_data_of_one_client_moves_nobody_else_before_the_first_exchange(works_of):
    """In the first local step a client's forward pass depends on its own rows alone."""
    before = works_of({"data.partition": {"kind": "size", "fractions": [0.4, 0.3, 0.3]}})
    after = works_of({"data.partition": {"kind": "size", "fractions": [0.4, 0.3, 0.2]}})
    first = {at[3]: before[at] == after[at] for at in before if at[:3] == (1, 1, "client_forward")}
    assert first == {"client-0": True, "client-1": True, "client-2": False}
    assert all(before[at] != after[at] for at in before if at[:3] == (1, 2, "client_backward"))


def test_evaluations_have_keys_of_their_own(tiny_scenario):
    def evaluation(changes):
        training = Training(prepare(tiny_scenario(changes)).task, cut_layer=1, lora_rank=2)
        client, server = training.start("client"), training.start("server")
        return evaluate(training, client.adapter, server.adapter).key

    assert evaluation({}) == evaluation({"radio.noise_figure_db": 1.0})
    assert evaluation({}) != evaluation({"data.source.num_test": 7})
    assert evaluation({}) != evaluation({"training.evaluation_batch_size": 3})


# One work


OPERATIONS = registered()


def key_of(operation="update", inputs=(), **params):
    return Graph("cosim.learning.learner").add(OPERATIONS[operation], inputs, **params).key


def test_a_key_says_operation_inputs_and_parameters():
    graph = Graph()
    left, right = (graph.add(OPERATIONS["start"], part=part) for part in ("client", "server"))
    ins = left.ref("adapter"), right.ref("adapter")
    assert key_of(inputs=ins, step=1) == key_of(inputs=ins, step=1)
    others = [
        key_of("aggregate", ins, step=1),
        key_of(inputs=ins, step=2),
        key_of(inputs=ins, step="1"),
        key_of(inputs=ins, step=[1]),
        key_of(inputs=ins, step=None),
        key_of(inputs=ins, steps=1),
        key_of(inputs=ins[::-1], step=1),
        key_of(inputs=ins[:1], step=1),
        key_of(inputs=(left.ref("optimizer"), ins[1]), step=1),
    ]
    assert len({*others, key_of(inputs=ins, step=1)}) == len(others) + 1


PARAMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(fields=st.lists(st.text(max_size=5), max_size=4), value=PARAMS)
def test_a_key_is_the_hash_of_the_repr_of_all_that_decides_it(fields, value):
    graph, update = Graph(), OPERATIONS["update"]
    ins = [graph.add(update, number=number).ref(field) for number, field in enumerate(fields)]
    shared = Params({"rows": value})
    whole = (
        update.name,
        code_key(update.module),
        [one.key for one in ins],
        {"value": value, "batch": shared},
    )
    expected = blake2b(repr(whole).encode(errors="surrogatepass"), digest_size=16).hexdigest()
    assert graph.add(update, ins, value=value, batch=shared).key == expected
    assert graph.beside(1).add(update, ins, value=value, batch=shared).key == expected


def test_two_floats_that_differ_in_the_last_bit_have_two_keys():
    assert key_of(rate=0.1) != key_of(rate=0.1 + 2**-56)


def test_other_code_of_an_operation_moves_its_keys_and_those_of_no_other(monkeypatch):
    before = key_of("update", step=1), key_of("aggregate", step=1)
    monkeypatch.setattr(OPERATIONS["update"], "module", "cosim.learning.operations.rank_pairs")
    assert key_of("update", step=1) != before[0]
    assert key_of("aggregate", step=1) == before[1]


def test_other_code_that_operations_compute_with_moves_all_keys():
    update = OPERATIONS["update"]
    assert Graph("cosim.graph.locks").add(update).key != Graph().add(update).key


def test_the_order_of_addition_is_in_no_key():
    graph, update = Graph("cosim.learning.learner"), OPERATIONS["update"]
    first = graph.add(update, step=1)
    graph.add(update, step=2)
    again = graph.add(update, step=1)
    assert first.key == again.key
    assert first.order < again.order


def test_two_operations_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two operations have the name 'update'"):

        @operation("update")
        def other(context, params):
            return {}
