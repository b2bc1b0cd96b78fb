"""Every aggregator in both schemes: what travels, what is learned, and what is saved."""

import json
from collections import defaultdict
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from cosim.errors import ScenarioError
from cosim.learning.aggregator import Aggregator
from cosim.learning.store import Store
from cosim.parts import family
from cosim.record.folder import Record
from cosim.run import run
from cosim.scenario.build import prepare

SCHEMES = ("split_federated", "federated")
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
        return tiny_scenario(
            {
                "scheme": {"kind": scheme, "num_rounds": 4, "local_steps": 2, "aggregator": aggregator},
                "model.dtype": "float64",
                "training.optimizer.learning_rate": 2e-2,
                **changes,
            }
        )

    return made


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
    assert losses[4] < losses[0] - 1e-3


@EVERY
def test_timing_alone_gives_the_same_spans(scenario, record, tmp_path, scheme, aggregator):
    timed = run(scenario(scheme, aggregator), tmp_path / "run", timing_only=True)
    full = record(scheme, aggregator).path
    assert (timed / "spans.parquet").read_bytes() == (full / "spans.parquet").read_bytes()


@EVERY
def test_bits_of_spans_are_those_of_what_travels(scenario, record, scheme, aggregator):
    """The tensors of each upload, counted."""
    lesson = prepare(scenario(scheme, aggregator)).lesson
    part, rank = lesson.aggregator, lesson.lora.rank
    shape = lesson.shape
    (c_attn,) = shape.targets(lesson.lora.targets(shape))
    num_blocks = lesson.model.cut_layer if scheme == "split_federated" else shape.num_layers
    for row in rows(record(scheme, aggregator), "adapter_upload"):
        mine = part.rank(int(row["actor"].removeprefix("client-")), rank)
        sent = part.sent(row["round"])
        numbers = mine * (c_attn.d_in * ("A" in sent) + c_attn.d_out * ("B" in sent))
        assert row["bits"] == 64 * num_blocks * numbers
    for row in rows(record(scheme, aggregator), "adapter_download"):
        mine = part.rank(int(row["peer"].removeprefix("client-")), rank)
        ranks = [part.rank(client, rank) for client in range(3)]
        numbers = part.download_numbers([c_attn], mine, ranks, row["round"])
        assert row["bits"] == 64 * num_blocks * numbers


@EVERY
def test_a_batched_executor_learns_the_same_up_to_rounding(record, scheme, aggregator):
    one = record(scheme, aggregator)
    many = record(scheme, aggregator, **{"training.executor": "batched", "training.max_group": 2})
    assert many.manifest["executor_fallback"] is None
    left, right = (figures(run_, "eval_loss") for run_ in (one, many))
    assert left == pytest.approx(right, rel=1e-9)


@EVERY
def test_a_run_played_from_a_store_computes_nothing_and_ends_with_the_same_bytes(
    scenario, record, tmp_path, scheme, aggregator
):
    store = Store(tmp_path / "store")
    told = scenario(scheme, aggregator)
    run(told, tmp_path / "first", store=store)
    again = Record.open(run(told, tmp_path / "second", store=Store(tmp_path / "store")))
    assert again.manifest["works"]["computed"] == 0
    before = record(scheme, aggregator)
    assert learned(again) == learned(before)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (again.path / "adapter" / name).read_bytes() == (before.path / "adapter" / name).read_bytes()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT asks by an old name
@EVERY
def test_what_is_saved_loads_with_peft_and_gives_the_evaluated_loss(scenario, record, scheme, aggregator):
    from peft import PeftModel

    told, done = scenario(scheme, aggregator), record(scheme, aggregator)
    lesson, folder = prepare(told).lesson, done.path / "adapter"
    base = lesson.model.base.load("causal_lm", 0, "float64")
    model = PeftModel.from_pretrained(base, folder).double().eval()
    residual = folder / "base_residual.safetensors"
    assert residual.is_file() == lesson.aggregator.has_residual == (folder / "README.md").is_file()
    if residual.is_file():
        parameters = dict(model.named_parameters())
        for name, tensor in load_file(residual).items():
            parameters[name].data += tensor
    test = lesson.tokens.test
    batch = test.batch(list(range(len(test))))
    labels = torch.tensor(batch.labels)
    with torch.no_grad():
        loss = model(
            input_ids=torch.tensor(batch.input_ids),
            attention_mask=torch.tensor(batch.attention_mask).long(),
            labels=labels,
        ).loss
    expected = figures(done, "eval_loss")[4]
    if lesson.aggregator.is_personal:  # saved is the mean of models, evaluated the mean of their losses
        assert float(loss) == pytest.approx(expected, rel=1e-2)
    else:
        assert float(loss) == pytest.approx(expected, rel=1e-6)  # transformers narrows to float32


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_single_client_learns_the_same_whatever_averages_that_keeps_moments_and_trains_all(
    record, scheme, kind
):
    """With nobody to average with, factors come back as they were."""
    part = family(Aggregator)[kind]
    alone = {"clients.count": 1}
    plain, other = (record(scheme, {"kind": one}, **alone) for one in ("fedavg", kind))
    is_same = part.keeps_moments and kind != "ffa"
    assert (figures(plain, "eval_loss") == pytest.approx(figures(other, "eval_loss"), rel=1e-9)) == is_same


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ffa_never_moves_a_and_rolora_one_factor_a_round(scenario, record, scheme):
    start = load_file(
        record(scheme, {"kind": "fedavg"}, **{"scheme.num_rounds": 1}).path / "adapter" / TENSORS
    )
    ffa = load_file(record(scheme, {"kind": "ffa"}).path / "adapter" / TENSORS)
    initial = prepare(scenario(scheme, {"kind": "ffa"})).lesson._model(4).initial_adapter()
    blocks = 1 if scheme == "split_federated" else 3
    for name, tensor in ffa.items():
        if ".lora_A." in name and int(name.split(".h.")[1].split(".")[0]) < blocks:
            assert torch.equal(tensor, initial[name])
            assert not torch.equal(start[name], initial[name])
    ends = [
        load_file(
            record(scheme, {"kind": "rolora"}, **{"scheme.num_rounds": number}).path / "adapter" / TENSORS
        )
        for number in (1, 2, 3)
    ]
    for (before, after), moved in zip(pairwise([initial, *ends]), "BAB", strict=True):
        for name in before:
            if int(name.split(".h.")[1].split(".")[0]) < blocks:
                assert torch.equal(before[name], after[name]) == (f".lora_{moved}." not in name)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_work_of_the_server_under_fedsa_has_a_b_among_its_inputs(scenario, scheme):
    """The average reads selections of A alone; B goes from a client's side to its own next one."""
    from cosim.learning.executor import TimingOnly

    class Watching(TimingOnly):
        computes = True

        def __init__(self):
            self.seen = defaultdict(set)

        def settle(self, keep, read):
            open_ = [one.work for one in (*keep, *read)]
            while open_:
                work = open_.pop()
                for one in work.inputs:
                    self.seen[work.operation].add(one.work.operation)
                    if work.operation == "aggregate" and one.work.operation == "select":
                        assert one.work.settings["factors"] == ["A"]
                    open_.append(one.work)
            return super().settle(keep, read)[0], [0.0 for _ in read]

    told = scenario(scheme, {"kind": "fedsa"})
    watching = Watching()
    world = prepare(told).world(lambda rank: watching)
    world.clock.run(world.clock.process(told.scheme.run(world), "the scheme"))
    assert watching.seen["aggregate"] <= {"select", "start", "kept"}
    assert "select" in watching.seen["aggregate"]


@pytest.mark.parametrize("kind", ["fedex", "flora", "fedsa", "hetlora", "product_svd", "rolora"])
def test_clients_that_sit_a_round_out_are_there_again_in_the_next(record, kind):
    done = record("federated", {"kind": kind}, **{"scheme.participation": 0.5})
    losses = figures(done, "eval_loss")
    assert losses[4] < losses[0] - 1e-3
    bits = {row["bits"] for row in rows(done, "adapter_download") if row["round"] == 1}
    if kind == "flora":  # two of three have sent: the stack is of them alone
        assert bits != {row["bits"] for row in rows(record("federated", {"kind": kind}), "adapter_download")}


@pytest.mark.parametrize("kind", ["fedex", "flora"])
def test_late_clients_are_out_of_the_average_and_back_with_the_next(record, kind):
    done = record("split_federated", {"kind": kind}, **{"scheme.deadline_s": 1e-9})
    assert {row["round"] for row in rows(done, "adapter_upload")} == {1, 2, 3, 4}
    assert len(rows(done, "adapter_upload")) == 4


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_classifiers_head_is_trained_whatever_becomes_of_the_factors(scenario, record, scheme, kind):
    classifier = {"model.task": "classification"}
    done = record(scheme, {"kind": kind}, **classifier)
    saved = load_file(done.path / "adapter" / TENSORS)
    initial = prepare(scenario(scheme, {"kind": kind}, **classifier)).lesson._model(4).initial_adapter()
    (head,) = [name for name in saved if "lora" not in name]
    assert float((saved[head] - initial[head]).abs().max()) > 1e-3


def test_a_rank_above_the_models_is_refused_with_the_numbers(scenario):
    for kind, message in (
        ("flora", "client_ranks: 8 is more than lora.rank 4"),
        ("fedavg", "client_ranks: 8 is not lora.rank 4"),
    ):
        told = scenario("federated", {"kind": kind, "client_ranks": [8]})
        with pytest.raises(ScenarioError, match=message):
            prepare(told)
