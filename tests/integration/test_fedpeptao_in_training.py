"""Prefixes and shared blocks in a training: what travels, what stays, scores, files, and what is refused."""

import numpy as np
import pytest
import torch

from cosim.errors import ScenarioError
from cosim.learning.execution import load_model
from cosim.learning.flop import score_flop
from cosim.learning.model import SplitModel
from cosim.learning.outputs import scored_of
from cosim.learning.trainable.prefix import Prefix
from cosim.record.folder import Record
from cosim.runs import run
from cosim.scenario.build import check, prepare
from cosim.testing.tiny_bases import tiny_base, tiny_batch
from tests.integration.test_updates_in_training import AIR, metric

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
