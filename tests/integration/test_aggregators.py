"""Every aggregator in both schemes: what travels, what is learned, and what is saved.

Two rounds: the second begins from what the first has averaged.
"""

import json
from collections import defaultdict
from itertools import pairwise
from math import exp

import pytest
import torch
from safetensors.torch import load_file

from cosim.cli.overview import overview
from cosim.errors import ScenarioError
from cosim.graph.store import Store
from cosim.learning.aggregator import Aggregator
from cosim.learning.aggregator.sums import matrices_of
from cosim.learning.execution import load_model, make_executor
from cosim.learning.federated_state import FederatedState
from cosim.learning.results import evaluate
from cosim.learning.split_nodes import split_step
from cosim.learning.training import Training
from cosim.learning.whole_nodes import local_round
from cosim.parts import family, make
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import prepare

SCHEMES = ("split_federated", "federated")
ROUNDS = 2
KINDS = [kind for kind in family(Aggregator)]
RANKS = [2, 4, 1]
CASES = [(scheme, {"kind": kind}) for scheme in SCHEMES for kind in KINDS] + [
    (scheme, {"kind": kind, "client_ranks": RANKS})
    for scheme in SCHEMES
    for kind, part in family(Aggregator).items()
    if part.takes_ranks
]
TENSORS = "adapter_model.safetensors"
NAMES = [f"{scheme}-{part['kind']}{'-ranks' * ('client_ranks' in part)}" for scheme, part in CASES]
EVERY = pytest.mark.parametrize(("scheme", "aggregator"), CASES, ids=NAMES)


@pytest.fixture(scope="module")
def scenario(tiny_scenario):
    """Return the tiny scenario with an aggregator, in float64."""

    def made(scheme, aggregator, **changes):
        if aggregator["kind"] == "chosen_blocks":  # clients hold a block that is shared, and one that is not
            changes = {"model.cut_layer": 2, **changes}
        return tiny_scenario(
            {
                "scheme": {"kind": scheme, "num_rounds": ROUNDS, "local_steps": 2, "aggregator": aggregator},
                "model.dtype": "float64",
                "training.optimizer.learning_rate": 2e-2,
                **changes,
            }
        )

    return made


@pytest.mark.parametrize(
    ("aggregator", "missing"),
    [
        ({"kind": "chosen_blocks", "blocks": [3]}, "nothing is averaged of what clients train"),
        ({"kind": "personal", "private": ["h.2"]}, "nothing is private of what clients train"),
    ],
)
def test_personal_models_need_a_part_in_front_of_the_cut(tiny_scenario, aggregator, missing):
    with pytest.raises(ScenarioError, match=missing):
        prepare(tiny_scenario({"scheme.aggregator": aggregator}))


@pytest.fixture(scope="module")
def record(scenario, tmp_path_factory):
    """Return the record of a run; each is run once."""
    known = {}

    def recorded(scheme, aggregator, **changes):
        name = json.dumps([scheme, aggregator, changes], sort_keys=True)
        if name not in known:
            folder = tmp_path_factory.mktemp("aggregator") / "run"
            known[name] = Record.open(run(scenario(scheme, aggregator, **changes), folder))
        return known[name]

    return recorded


def rows(record, name):
    return [row for row in record.spans.to_pylist() if row["name"] == name]


def figures(record, name):
    return {row["round"]: row["value"] for row in record.metrics.to_pylist() if row["name"] == name}


def learned(record):
    return record.manifest["fingerprints"]["learning"]


@EVERY
def test_it_learns(record, scheme, aggregator):
    losses = figures(record(scheme, aggregator), "eval_loss")
    assert losses[ROUNDS] < losses[0] - 1e-3


@EVERY
def test_timing_alone_gives_the_same_spans(scenario, record, tmp_path, scheme, aggregator):
    timed = run(scenario(scheme, aggregator), tmp_path / "run", timing_only=True)
    full = record(scheme, aggregator).path
    assert (timed / "spans.parquet").read_bytes() == (full / "spans.parquet").read_bytes()


@EVERY
def test_bits_of_spans_are_those_of_what_travels(scenario, record, scheme, aggregator):
    """The tensors of each upload, counted."""
    task = prepare(scenario(scheme, aggregator)).task
    part, rank = task.aggregator, task.trainable.lora_rank
    shape = task.shape
    (c_attn,) = shape.targets(task.trainable.targets(shape))
    num_blocks = task.model.cut_layer if scheme == "split_federated" else shape.num_layers
    held = task.trainable.held(shape, num_blocks)
    private = sum(one.numbers for one in held if one.name in task.private)
    for row in rows(record(scheme, aggregator), "adapter_upload"):
        mine = part.rank(int(row["actor"].removeprefix("client-")), rank)
        sent = part.sent(row["round"])
        numbers = mine * (c_attn.d_in * ("A" in sent) + c_attn.d_out * ("B" in sent))
        assert row["bits"] == 64 * (num_blocks * numbers + part.wants_losses - private)
    for row in rows(record(scheme, aggregator), "adapter_download"):
        mine = part.rank(int(row["peer"].removeprefix("client-")), rank)
        ranks = [part.rank(client, rank) for client in range(3)]
        numbers = part.download_numbers([c_attn], mine, ranks, row["round"])
        assert row["bits"] == 64 * (num_blocks * numbers - private)


@EVERY
def test_a_batched_executor_learns_the_same_up_to_rounding(record, scheme, aggregator):
    many = record(scheme, aggregator, **{"training.executor": "batched", "training.max_group": 2})
    assert many.manifest["executor_fallback"] is None
    left, right = (figures(run_, "eval_loss") for run_ in (record(scheme, aggregator), many))
    assert left == pytest.approx(right, rel=1e-9)


@EVERY
def test_a_run_played_from_a_store_computes_nothing_and_ends_with_the_same_bytes(
    scenario, record, tmp_path, scheme, aggregator
):
    """After a shorter run, a longer one goes on from what is kept of its rounds."""
    told = scenario(scheme, aggregator)
    shorter = scenario(scheme, aggregator, **{"scheme.num_rounds": 1})
    computed = []
    for number, one in enumerate((shorter, told, told)):
        folder = run(one, tmp_path / f"run-{number}", store=Store(tmp_path / "store"))
        again = Record.open(folder)
        computed.append(again.manifest["works"]["computed"])
    before = record(scheme, aggregator)
    assert computed[2] == 0
    assert (
        computed[1] <= before.manifest["works"]["computed"] - computed[0] + 2
    )  # an export each, and of personal models their mean
    assert learned(again) == learned(before)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (again.path / "adapter" / name).read_bytes() == (before.path / "adapter" / name).read_bytes()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT asks by an old name
@EVERY
def test_what_is_saved_loads_with_peft_and_gives_the_evaluated_loss(scenario, record, scheme, aggregator):
    from peft import PeftModel

    told, done = scenario(scheme, aggregator), record(scheme, aggregator)
    task, folder = prepare(told).task, done.path / "adapter"
    base = task.model.base.load("causal_lm", 0, "float64")
    model = PeftModel.from_pretrained(base, folder).double().eval()
    residual = folder / "base_residual.safetensors"
    assert residual.is_file() == task.aggregator.has_residual == (folder / "README.md").is_file()
    if residual.is_file():
        parameters = dict(model.named_parameters())
        for name, tensor in load_file(residual).items():
            parameters[name].data += tensor
    test = task.tokens.test
    batch = test.batch(list(range(len(test))))
    labels = torch.tensor(batch.labels)
    with torch.no_grad():
        loss = model(
            input_ids=torch.tensor(batch.input_ids),
            attention_mask=torch.tensor(batch.attention_mask).long(),
            labels=labels,
        ).loss
    expected = figures(done, "eval_loss")[ROUNDS]
    if task.aggregator.is_personal:  # saved is the mean of models, evaluated the mean of their losses
        assert float(loss) == pytest.approx(expected, rel=1e-2)
    else:
        assert float(loss) == pytest.approx(expected, rel=1e-6)  # transformers narrows to float32


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_single_client_learns_the_same_whatever_averages_that_keeps_moments_and_trains_all(
    record, scheme, kind
):
    """With nobody to average with, factors come back as they were; a step by losses is another one."""
    part = family(Aggregator)[kind]
    plain, other = (record(scheme, {"kind": one}, **{"clients.count": 1}) for one in ("fedavg", kind))
    is_same = part.keeps_moments and kind != "ffa" and not part.wants_losses
    assert (figures(plain, "eval_loss") == pytest.approx(figures(other, "eval_loss"), rel=1e-9)) == is_same


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ffa_never_moves_a_and_rolora_one_factor_a_round(scenario, record, scheme):
    start = load_file(
        record(scheme, {"kind": "fedavg"}, **{"scheme.num_rounds": 1}).path / "adapter" / TENSORS
    )
    ffa = load_file(record(scheme, {"kind": "ffa"}).path / "adapter" / TENSORS)
    initial = load_model(prepare(scenario(scheme, {"kind": "ffa"})).task, 4).initial_adapter()
    blocks = 1 if scheme == "split_federated" else 3
    for name, tensor in ffa.items():
        if ".lora_A." in name and int(name.split(".h.")[1].split(".")[0]) < blocks:
            assert torch.equal(tensor, initial[name])
            assert not torch.equal(start[name], initial[name])
    rolora = [record(scheme, {"kind": "rolora"}, **{"scheme.num_rounds": number}) for number in (1, 2, 3)]
    ends = [load_file(one.path / "adapter" / TENSORS) for one in rolora]
    for (before, after), moved in zip(pairwise([initial, *ends]), "BAB", strict=True):
        for name in before:
            if int(name.split(".h.")[1].split(".")[0]) < blocks:
                assert torch.equal(before[name], after[name]) == (f".lora_{moved}." not in name)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_work_of_the_server_under_fedsa_has_a_b_among_its_inputs(scenario, scheme):
    """The average reads selections of A alone; B goes from a client's side to its own next one."""
    from cosim.graph.executor import TimingOnly

    class Watching(TimingOnly):
        computes = True

        def __init__(self):
            self.seen = defaultdict(set)

        def materialise(self, keep, read):
            open_ = [one.node for one in (*keep, *read)]
            while open_:
                work = open_.pop()
                for one in work.inputs:
                    self.seen[work.operation.name].add(one.node.operation.name)
                    if work.operation.name == "aggregate" and one.node.operation.name == "select":
                        assert one.node.params["factors"] == ["A"]
                    open_.append(one.node)
            super().materialise(keep, read)
            return [0.0 for _ in read]

    told = scenario(scheme, {"kind": "fedsa"})
    watching = Watching()
    world = prepare(told).world(lambda rank: watching)
    world.clock.run(world.clock.process(told.scheme.run(world), "the scheme"))
    assert watching.seen["aggregate"] <= {"select", "start", "aggregate"}
    assert "select" in watching.seen["aggregate"]


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("kind", ["fedex", "flora", "fedsa", "hetlora", "product_svd", "rolora"])
def test_clients_that_sit_a_round_out_are_there_again_in_the_next(record, kind, share):
    """One or two of three take part; under fedsa those who have not yet share a model."""
    done = record("federated", {"kind": kind}, **{"scheme.participation": share, "scheme.num_rounds": 3})
    losses = figures(done, "eval_loss")
    assert losses[3] < losses[0] - 1e-3
    bits = {row["bits"] for row in rows(done, "adapter_download") if row["round"] == 1}
    if kind == "flora":  # not all have sent: the stack is of those who have alone
        assert bits != {row["bits"] for row in rows(record("federated", {"kind": kind}), "adapter_download")}


@pytest.mark.parametrize("kind", ["fedex", "flora"])
def test_late_clients_are_out_of_the_average_and_back_with_the_next(record, kind):
    done = record("split_federated", {"kind": kind}, **{"scheme.deadline_s": 1e-9, "scheme.num_rounds": 3})
    assert {row["round"] for row in rows(done, "adapter_upload")} == {1, 2, 3}
    assert len(rows(done, "adapter_upload")) == 3


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_classifiers_head_is_trained_whatever_becomes_of_the_factors(scenario, record, scheme, kind):
    classifier = {"model.task": "classification", "scheme.num_rounds": 1}
    done = record(scheme, {"kind": kind}, **classifier)
    saved = load_file(done.path / "adapter" / TENSORS)
    initial = load_model(prepare(scenario(scheme, {"kind": kind}, **classifier)).task, 4).initial_adapter()
    (head,) = [name for name in saved if "lora" not in name]
    assert float((saved[head] - initial[head]).abs().max()) > 1e-3


@pytest.mark.parametrize("part", ["client", "whole"])
@pytest.mark.parametrize(
    "aggregator", [{"kind": "fedex"}, {"kind": "flora"}, {"kind": "flora", "client_ranks": RANKS}]
)
def test_after_a_round_the_model_is_the_mean_of_the_clients_models(tiny_scenario, part, aggregator):
    """Two rounds of four clients: what each has learned, added up by hand in float64."""
    sizes = {"kind": "size", "fractions": [0.4, 0.1, 0.3, 0.2]}
    task = prepare(
        tiny_scenario(
            {
                "scheme": {"kind": "federated", "aggregator": aggregator},
                "clients.count": 4,
                "data.partition": sizes,
                "model.dtype": "float64",
                "training.optimizer.learning_rate": 2e-2,
            }
        )
    ).task
    training = Training(task, 2, 4)
    federation, server, executor = (
        FederatedState(training, part),
        training.start("server"),
        make_executor(task, 4),
    )
    scaling = task.trainable.scaling_alpha / task.trainable.rank

    def models(sides):
        """Return what each side adds to the weights of each matrix."""
        values = [value for side in sides for value in side.model]
        adapters = iter(executor.materialise((), values))
        for side in sides:
            adapter, residual = next(adapters), {} if side.residual is None else next(adapters)
            yield {
                one.a_name: scaling * adapter[one.b_name] @ adapter[one.a_name]
                + residual.get(one.a_name, 0.0)
                for one in matrices_of(adapter)
            }

    for round_ in (1, 2):
        for client, side in enumerate(federation.states):
            for step in (2 * round_ - 2, 2 * round_ - 1):
                if part == "whole":
                    side = local_round(training, client, side, [step]).after
                else:
                    side = split_step(training, client, side, server, step).after
            federation.states[client] = side
        before = list(models(federation.states))
        federation.average({client: federation.upload(client, round_) for client in range(4)}, round_)
        federation.distribute_to_all(round_ + 1)
        for after in models(federation.states):
            for name, found in after.items():
                mean = sum(weight * one[name] for weight, one in zip(task.weights, before, strict=True))
                assert float((found - mean).abs().max()) < 1e-12
                assert float(found.abs().max()) > 1e-4
        executor.materialise(list(federation.refs()), ())


def test_what_both_ends_knew_when_a_round_began_stays_when_values_are_found_out_within_it(tiny_scenario):
    task = prepare(tiny_scenario({"scheme": {"kind": "federated", "aggregator": {"kind": "ffa"}}})).task
    training = Training(task, 3, 4)
    federation, executor = FederatedState(training, "whole"), make_executor(task, 4)
    for client, side in enumerate(federation.states):
        federation.states[client] = local_round(training, client, side, range(2)).after
    (before,) = executor.materialise((), [federation.reference(0, 1)])
    executor.materialise(list(federation.refs()), ())
    (after, sent) = executor.materialise((), [federation.reference(0, 1), federation.upload(0, 1)])
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(sent[name], after[name]) for name in before)


def test_the_evaluation_of_personal_models_is_the_mean_of_theirs(tiny_scenario):
    task = prepare(tiny_scenario({"scheme": {"kind": "federated", "aggregator": {"kind": "fedsa"}}})).task
    training = Training(task, 3, 4)
    federation, executor = FederatedState(training, "whole"), make_executor(task, 4)
    for client, side in enumerate(federation.states):
        federation.states[client] = local_round(training, client, side, range(3)).after
    federation.average({client: federation.upload(client, 1) for client in range(3)}, 1)
    federation.distribute_to_all(2)
    mean = federation.evaluate()
    each = [evaluate(training, side.adapter) for side in federation.states]
    names = ("loss", "accuracy", "perplexity")
    wanted = [one.ref(name) for one in (mean, *each) for name in names[: 3 if one is mean else 2]]
    (loss, accuracy, perplexity, *others) = executor.materialise((), wanted)
    assert len(set(others[::2])) == 3
    assert loss == pytest.approx(sum(p * x for p, x in zip(task.weights, others[::2], strict=True)))
    assert accuracy == pytest.approx(sum(p * x for p, x in zip(task.weights, others[1::2], strict=True)))
    assert perplexity == pytest.approx(exp(loss))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["fedex", "flora", "product_svd"])
def test_what_joins_a_base_of_bfloat16_is_added_in_float32(record, scheme, kind):
    done = record(scheme, {"kind": kind}, **{"model.dtype": "bfloat16"})
    losses = figures(done, "eval_loss")
    assert losses[ROUNDS] < losses[0]
    residual = done.path / "adapter" / "base_residual.safetensors"
    if residual.is_file():
        assert {tensor.dtype for tensor in load_file(residual).values()} == {torch.float32}


@pytest.mark.parametrize("kind", ["fedavg", "fedex", "flora", "ffa", "fedsa", "product_svd"])
def test_a_round_lasts_as_foreseen_whatever_comes_down(tiny_scenario, play, kind):
    world = play(
        tiny_scenario(
            {
                "scheme.aggregator": {"kind": kind},
                "scheme.num_rounds": 1,
                "radio.fading.kind": "none",
                "radio.federated_downlink.modelled": True,
                "radio.main_downlink.modelled": True,
            }
        )
    )
    values = dict(zip(world.log.metrics.name, world.log.metrics.value, strict=True))
    assert values["predicted_round_s"] == pytest.approx(world.clock.now / 1e9, abs=1e-7)


def test_no_round_is_foreseen_where_clients_or_rounds_differ(tiny_scenario, play):
    for told in ({"kind": "rolora"}, {"kind": "hetlora", "client_ranks": [1, 2]}):
        world = play(tiny_scenario({"scheme.aggregator": told}))
        assert "predicted_round_s" not in set(world.log.metrics.name)


def test_ranks_decide_what_each_client_computes(tiny_scenario, play):
    """A client of rank 1 forwards fewer FLOP than one of rank 4, in both schemes."""
    for scheme, name in (("split_federated", "client_forward"), ("federated", "client_forward_backward")):
        told = {"kind": scheme, "num_rounds": 1, "aggregator": {"kind": "hetlora", "client_ranks": [4, 1]}}
        spans = play(tiny_scenario({"scheme": told})).log.spans
        spans.settle()
        flop = {}
        for kind, actor, amount in zip(spans.name, spans.actor, spans.flop, strict=True):
            if kind == name:
                flop.setdefault(actor, set()).add(amount)
        assert flop["client-0"] == flop["client-2"]
        assert min(flop["client-0"]) > max(flop["client-1"])


def test_a_check_tells_what_the_server_must_see(tiny_scenario):
    for kind, words in (("fedavg", "no more than the sum"), ("fedex", "each upload by itself")):
        lines = list(overview(tiny_scenario({"scheme.aggregator": {"kind": kind}})))
        assert any(words in line and kind in line for line in lines)


def test_a_rank_above_the_models_is_refused_with_the_numbers(scenario):
    for kind, message in (
        ("flora", "client_ranks: 8 is more than lora.rank 4"),
        ("fedavg", "client_ranks: 8 is not lora.rank 4"),
    ):
        told = scenario("federated", {"kind": kind, "client_ranks": [8]})
        with pytest.raises(ScenarioError, match=message):
            prepare(told)


def test_the_covariance_error_is_nothing_where_a_factor_is_common_and_something_otherwise(record):
    errors = {kind: figures(record("federated", {"kind": kind}), "covariance_error") for kind in KINDS}
    assert not errors["fedsa"]  # no product is of the server's knowledge
    for kind in ("ffa", "rolora"):
        assert set(errors[kind]) == {1, ROUNDS}
        assert all(error < 1e-12 for error in errors[kind].values())
    assert all(error > 1e-6 for kind in ("fedavg", "fedex") for error in errors[kind].values())


def test_the_bias_is_nothing_where_products_are_averaged_and_falls_by_the_correction(record):
    bias = {kind: figures(record("federated", {"kind": kind}), "product_bias") for kind in KINDS}
    assert not bias["fedsa"]
    for kind in ("ffa", "rolora", "fedex", "flora"):
        assert set(bias[kind]) == {1, ROUNDS}
        assert all(error < 1e-12 for error in bias[kind].values())
    assert 0.0 < bias["lora_fair"][1] < bias["fedavg"][1]  # clients began from the same


CODECS = [
    {"kind": "bfloat16"},
    {"kind": "qsgd"},
    {"kind": "top_k", "sparsification_ratio": 0.5},
    {"kind": "top_k", "sparsification_ratio": 0.5, "error_feedback": False},
    {"kind": "soft", "sparsification_ratio": 0.5},
    {"kind": "soft", "sparsification_ratio": 0.5, "error_feedback": False, "unsent": "masked"},
    {"kind": "random_ranks", "sparsification_ratio": 0.5, "error_feedback": False},
    {"kind": "svd", "sparsification_ratio": 0.5},
]


def refusal(codec, part):
    """Return why a codec does not go with an aggregator; None if it does."""
    if codec["kind"] in ("soft", "random_ranks", "svd") and part.kind in (
        "ffa",
        "rolora",
        "fedsa",
        "personal",
    ):
        return "cannot send what the aggregator .* averages"
    if codec.get("unsent") == "masked" and not part.takes_masks:
        return "cannot leave that out of its average"
    if codec.get("error_feedback", True) and codec["kind"] in ("top_k", "soft") and not part.keeps_factors:
        return "the next one is of other factors; set error_feedback to false"
    if codec["kind"] == "svd" and not part.averages_products:
        return "take one of 'fedex', 'flora', 'product_svd'"
    return None


@pytest.mark.parametrize("codec", CODECS, ids=[" ".join(map(str, one.values())) for one in CODECS])
@pytest.mark.parametrize("kind", KINDS)
def test_encoded_uploads_are_averaged_or_refused_with_the_reason(scenario, record, kind, codec):
    told = {"scheme.adapter_codec": codec, "scheme.local_steps": 1, "clients.count": 2}
    part = make(Aggregator, {"kind": kind})
    aggregator = {"kind": kind, **({"client_ranks": RANKS} if part.takes_ranks else {})}
    reason = refusal(codec, part)
    if reason is not None:
        with pytest.raises(ScenarioError, match=reason):
            prepare(scenario("federated", aggregator, **told))
        return
    losses = figures(record("federated", aggregator, **told), "eval_loss")
    assert losses[ROUNDS] < losses[0]
