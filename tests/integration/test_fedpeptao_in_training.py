"""Prefixes and shared blocks in a training: what travels, what stays, scores, files, and what is refused."""

import numpy as np
import pytest
import torch

from cosim.errors import ScenarioError
from cosim.learning.execution import load_model
from cosim.learning.families.kernels import attend_stepwise
from cosim.learning.flop import hessian_flop, score_flop, whole_flop
from cosim.learning.hessian_spectrum import spectrum
from cosim.learning.learner import Learner, mean_loss
from cosim.learning.model import SplitModel
from cosim.learning.operations.hessian_scores import hessian_scores
from cosim.learning.outputs import scored_of
from cosim.learning.trainable.prefix import Prefix
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.testing.tiny_bases import tiny_batch
from tests.integration.test_updates_in_training import AIR, metric
from tests.tiny_bases import tiny_base

TOKENS, WIDTH, BLOCKS = 5, 16, 3
PREFIX = {
    "trainable": {"kind": "prefix", "num_tokens": TOKENS, "initial_std": 0.3},
    "training.optimizer": {"kind": "adamw", "learning_rate": 0.2},
}
SHARED = {"kind": "chosen_blocks", "blocks": [1, 3]}
SCHEME = {"kind": "federated", "num_rounds": 2, "local_steps": 2}
SCORED = {"scored_examples": 4}
NO_TERMS = {"kind": "fedpeptao", "momentum": 0.0, "control": False}


@pytest.fixture(scope="module")
def played(tiny_scenario, tmp_path_factory):
    def record(scheme, **options):
        scenario = tiny_scenario({**PREFIX, "scheme": {**SCHEME, **scheme}})
        return Record.open(run(scenario, tmp_path_factory.mktemp("runs") / "run", **options))

    return record


@pytest.fixture(scope="module")
def shared(played):
    return played(
        {"aggregator": SHARED, "participation": 0.6, "server_optimizer": {"kind": "fedpeptao"}, **SCORED}
    )


def test_shared_blocks_alone_travel_and_each_client_scores_all_of_them_once(shared, tiny_scenario):
    spans, metrics = shared.frame("spans"), shared.frame("metrics")
    sizes = {name: set(spans[spans.name == name].bits) for name in set(spans.name)}
    of_two_blocks = 2 * 2 * TOKENS * WIDTH * 32
    assert sizes["adapter_upload"] == sizes["adapter_download"] == {of_two_blocks}
    assert sizes["block_scores"] == {32 * BLOCKS}
    shape = prepare(tiny_scenario(PREFIX)).task.shape
    scored = spans[spans.name == "score_blocks"]
    assert set(scored.flop) == {score_flop(shape, 4, 48)}
    assert len(scored) == 3
    scores = metrics[metrics.name.str.startswith("block_score_")]
    assert len(scores) == 3 * BLOCKS
    assert np.isfinite(scores.value).all()


def test_what_is_not_shared_stays_with_its_client_and_blocks_that_are_all_shared_are_fedavg(played):
    everything = metric(played({"aggregator": {**SHARED, "blocks": [1, 2, 3]}}), "eval_loss")
    assert everything == pytest.approx(metric(played({}), "eval_loss"), rel=1e-6)
    some = metric(played({"aggregator": SHARED}), "eval_loss")
    assert some[0] == pytest.approx(everything[0], rel=1e-6)
    assert some[2] != pytest.approx(everything[2], rel=1e-6)


def test_without_momentum_and_control_a_run_is_that_of_fedavg(played):
    plain, followed = (
        metric(played({"server_optimizer": one, "participation": 0.6}), "eval_loss")
        for one in ({"kind": "none"}, NO_TERMS)
    )
    assert followed == pytest.approx(plain, rel=1e-6)


def test_a_score_sums_over_the_eigenvalues_of_the_cosines_between_examples(shared, tiny_scenario):
    """``log e + 1/e``, worked out here of the cosines of every pair, one after the other."""
    task = prepare(tiny_scenario({**PREFIX, "scheme": {**SCHEME, "aggregator": SHARED, **SCORED}})).task
    model, rows = load_model(task, 1), task.shares[1][:4]
    batch = task.tokens.train.batch([int(row) for row in rows]).trimmed()
    outputs = [one.double().numpy() for one in model.block_outputs(model.initial_adapter(), batch)]
    metrics = shared.frame("metrics")
    for block, output in enumerate(outputs, start=1):
        kept = [(one * seen[:, None]).ravel() for one, seen in zip(output, batch.attention_mask, strict=True)]
        cosines = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a in kept] for b in kept]
        values = np.linalg.eigvalsh(np.array(cosines)) + 1e-5
        (found,) = metrics[(metrics.name == f"block_score_{block}") & (metrics.actor == "client-1")].value
        assert found == pytest.approx(float(np.sum(np.log(values) + 1 / values)), rel=1e-4)


def signs(size, block):
    """Return the vector a spectrum begins from."""
    generator = torch.Generator().manual_seed(stream(7, "block", block).torch_seed())
    return (2.0 * torch.randint(2, (size,), generator=generator) - 1.0).double()


def test_scores_by_the_hessian_are_those_of_the_whole_matrix(tiny_scenario):
    small = {"trainable.num_tokens": 1, "trainable.blocks": [1, 3], "model.dtype": "float64"}
    task = prepare(tiny_scenario({**PREFIX, **small})).task
    model, rows = load_model(task, 1), [int(row) for row in task.shares[1][:2]]
    adapter = model.initial_adapter()
    found = hessian_scores.body(Learner(task, model), {"batch": {"rows": rows}, "probe": 7}, adapter)
    assert set(found) == {"shared_ratio", "score_1", "score_2", "score_3"}
    batch, each = task.tokens.train.batch(rows).trimmed(), 2 * WIDTH  # a key and a value in each block
    model.attend_by(attend_stepwise)

    def loss(flat):
        parts = dict(zip(adapter, flat.view(-1, 1, WIDTH), strict=True))
        return mean_loss(model.whole_outputs(parts, batch))

    exact = torch.autograd.functional.hessian(loss, torch.cat([one.flatten() for one in adapter.values()]))
    whole = spectrum(lambda vector: exact @ vector, signs(2 * each, 0))
    threshold = whole.threshold()
    assert found["shared_ratio"] == pytest.approx(whole.share_above(threshold), abs=1e-9)
    assert found["score_2"] == 0.0
    for block, first in ((1, 0), (3, each)):
        own = slice(first, first + each)
        values, vectors = torch.linalg.eigh(exact[own, own])
        shares = (vectors.T @ signs(each, block)) ** 2 / each
        width = (1e-5 * max(1.0, float(values[-1] - values[0]))) ** 0.5
        above = float(shares @ torch.special.ndtr((values - threshold) / width))
        assert found[f"score_{block}"] == pytest.approx(above, abs=1e-8)
    assert found["score_1"] != pytest.approx(found["score_3"], abs=1e-3)


def test_a_spectrum_has_the_moments_of_the_matrix_and_all_eigenvalues_after_as_many_products():
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    matrix, probe = (matrix + matrix.T) / 10, torch.ones(20, dtype=torch.float64)
    few, every = (spectrum(lambda vector: matrix @ vector, probe, most) for most in (6, 20))
    power = probe / 20
    for exponent in range(12):
        assert float(few.shares @ few.values**exponent) == pytest.approx(float(probe @ power), rel=1e-9)
        power = matrix @ power
    torch.testing.assert_close(every.values, torch.linalg.eigvalsh(matrix), rtol=1e-9, atol=1e-9)
    nothing = spectrum(torch.zeros_like, probe)
    assert nothing.values.tolist() == [0.0]
    assert nothing.shares.tolist() == [1.0]


def test_scores_by_the_hessian_are_charged_and_sent_as_the_chosen_round_begins(played, tiny_scenario):
    scored = {"scored_examples": 1, "scored_by": "hessian", "scored_round": 2, "local_steps": 1}
    record = played(scored)
    spans, metrics = record.frame("spans"), record.frame("metrics")
    task = prepare(tiny_scenario(PREFIX)).task
    gradient = whole_flop(task.shape, task.trainable, 1, 48)
    charged = hessian_flop(task.shape, task.trainable, 1, 48)
    assert charged == (gradient.forward + gradient.backward) * (1 + 2 * 50 * (1 + BLOCKS))
    made = spans[spans.name == "score_blocks"]
    assert (set(made["round"]), set(made.flop), len(made)) == ({2}, {charged}, 3)
    assert set(spans[spans.name == "block_scores"].bits) == {32 * (BLOCKS + 1)}
    values = metrics[metrics.name.str.startswith("block_score_") | (metrics.name == "shared_ratio")].value
    assert len(values) == 3 * (BLOCKS + 1)
    assert values.between(0.0, 1.0).all()
    with pytest.raises(ScenarioError, match="scored_round: 9 is after the last of num_rounds 2"):
        tiny_scenario({"scheme": {**SCHEME, "scored_examples": 2, "scored_round": 9}})


def test_blocks_are_scored_by_the_models_own_hidden_states():
    """As transformers has them without prefixes."""
    base = tiny_base("gpt2")
    model = SplitModel.load(base, Prefix(num_tokens=4), dtype="float64")
    batch = tiny_batch(model.shape, 5, 6)
    found = model.block_outputs(model.initial_adapter(), batch)
    whole = base.load("causal_lm", 0, "float64").eval()
    with torch.no_grad():
        positions = torch.arange(4, 10)[None]
        ids, seen = torch.tensor(batch.input_ids), torch.tensor(batch.attention_mask).long()
        hidden = whole.transformer(
            ids, attention_mask=seen, position_ids=positions, output_hidden_states=True
        )
    for ours, theirs in zip(found[:-1], hidden.hidden_states[1:-1], strict=True):
        mask = torch.tensor(batch.attention_mask)
        torch.testing.assert_close(ours[mask], theirs[mask], rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_prefixes_of_all_blocks_load_into_peft_and_compute_the_same(family, tmp_path):
    from peft import PeftModel

    base = tiny_base(family)
    model = SplitModel.load(base, Prefix(num_tokens=3, initial_std=0.7))
    tensors, batch = model.initial_adapter(), tiny_batch(model.shape, 3, 7)
    for name, content in model.adapter_files(tensors).items():
        (tmp_path / name).write_bytes(content)
    loaded = PeftModel.from_pretrained(base.load("causal_lm", 0, "float32"), tmp_path).eval()
    ids, seen = torch.tensor(batch.input_ids), torch.tensor(batch.attention_mask).long()
    with torch.no_grad():
        expected = loaded(input_ids=ids, attention_mask=seen).logits.flatten(0, 1)
        found = model.whole_outputs(tensors, batch).logits
    places = torch.tensor(scored_of(batch, "causal_lm", is_causal=True).places)
    torch.testing.assert_close(found, expected[places], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainable.blocks": [2, 9]}, ("trainable.blocks: the model has no block 9", "1 to 3")),
        (
            {"scheme.aggregator": {"kind": "chosen_blocks", "blocks": [7]}},
            ("scheme.aggregator.blocks: the model has no block 7", "1 to 3"),
        ),
        (
            {"trainable.blocks": [2], "scheme.aggregator": {"kind": "chosen_blocks", "blocks": [1]}},
            ("scheme.aggregator.blocks: nothing is trained",),
        ),
        ({"trainable.num_tokens": 20}, ("data.sequence_length: 48 tokens", "64 positions less the 20")),
        ({**AIR, "scheme.server_optimizer": NO_TERMS}, ("needs the update of each client", "'fluid'")),
        ({**AIR, "scheme.scored_examples": 4}, ("scheme.scored_examples: each client", "set it to 0")),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, words, tiny_scenario):
    (fault,) = check(tiny_scenario({**PREFIX, "scheme": SCHEME, **changes}))
    assert all(word in fault for word in words), fault


def test_a_scheme_whose_server_has_sums_alone_says_so(tiny_scenario):
    split = {"kind": "split_federated", "server_optimizer": NO_TERMS}
    summed = {**SCHEME, "server_optimizer": NO_TERMS, "update": [{"kind": "ferret"}]}
    for scheme in (split, summed):
        with pytest.raises(ScenarioError, match="needs the update of each client"):
            tiny_scenario({"scheme": scheme})
