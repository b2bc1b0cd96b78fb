"""Training every parameter: a plain PyTorch loop, other schemes, and what transformers reads of it."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from cosim.learning.data.draws import BatchDraws
from cosim.learning.execution import load_model
from cosim.learning.families import take_apart
from cosim.learning.outputs import losses_of as cross_entropies
from cosim.learning.outputs import scored_of
from cosim.record.folder import Record
from cosim.rng import stream
from cosim.runs import resume, run
from cosim.scenario.build import prepare
from cosim.testing.ulps import ulps_apart
from tests.tiny_bases import scored_logits

NUM_STEPS = 4
OPTIMIZERS = {
    "sgd": (
        {"kind": "sgd", "learning_rate": 0.2, "momentum": 0.9},
        lambda weights: torch.optim.SGD(weights, lr=0.2, momentum=0.9),
    ),
    "adamw": (
        {"kind": "adamw", "learning_rate": 1e-2, "max_grad_norm": 0.5},
        lambda weights: torch.optim.AdamW(weights, lr=1e-2),
    ),
}


@pytest.fixture
def full(tiny_scenario):
    """Return the tiny scenario with every parameter trained, and these changes."""

    def changed(changes):
        return tiny_scenario({"trainable.kind": "full", "model.dtype": "float64", **changes})

    return changed


def weights_of(folder):
    return load_file(folder / "model" / "model.safetensors")


def losses_of(folder):
    rows = Record.open(folder).metrics.to_pylist()
    return {
        (row["round"], row["local_step"], row["actor"], row["name"]): row["value"]
        for row in rows
        if row["name"] == "train_loss" or row["name"].startswith("eval_")
    }


def by_hand(task, make_optimizer):
    """Return weights and losses of a loop over a model of transformers, by the kernels cosim has for it."""
    model = task.model.base.load("causal_lm", 0, "float64").train(False)
    body = take_apart(model, task.shape)
    optimizer = make_optimizer(list(model.parameters()))
    (share,) = task.shares
    draws = BatchDraws(len(share), task.training.batch_size, stream(task.seed, "batches", 0))
    losses = []
    for step in range(NUM_STEPS):
        batch = task.tokens.train.batch([share[row] for row in draws.rows(step)]).trimmed()
        scored = scored_of(batch, "causal_lm", is_causal=True)
        hidden = body.embed(torch.tensor(batch.input_ids))
        for block in body.blocks[:-1]:
            hidden = body.run_block(block, hidden, None)
        rows = body.run_block(body.blocks[-1], hidden, None, torch.tensor(scored.places))
        each = cross_entropies(body.scores(rows), torch.tensor(scored.targets))
        # Summed example by example first: another order of the same sum differs in the last bit.
        sums = each.new_zeros(len(batch.input_ids)).index_add(0, torch.tensor(scored.examples), each)
        loss = sums.sum() / len(each)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        if task.training.optimizer.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), task.training.optimizer.max_grad_norm)
        optimizer.step()
    return dict(model.named_parameters()), losses


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("scheme", ["federated", "centralized", "asynchronous"])
def test_one_client_learns_what_a_plain_loop_over_all_parameters_does_bit_for_bit(
    scheme, kind, full, tmp_path
):
    settings, make_optimizer = OPTIMIZERS[kind]
    recipe = {"kind": scheme, "num_rounds": 2, "local_steps": NUM_STEPS // 2}
    if scheme == "asynchronous":
        recipe["mixing"] = 1.0
    scenario = full({"clients.count": 1, "training.optimizer": settings, "scheme": recipe})
    folder = run(scenario, tmp_path / "run")
    expected, losses = by_hand(prepare(scenario).task, make_optimizer)
    found = weights_of(folder)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name].detach()) for name in found)
    assert [value for at, value in losses_of(folder).items() if at[-1] == "train_loss"] == losses


def test_a_checkpoint_gives_transformers_the_model_that_was_trained(full, tmp_path):
    scenario = full({"scheme.kind": "federated"})
    folder = run(scenario, tmp_path / "run") / "model"
    task = prepare(scenario).task
    batch = task.tokens.test.batch([0, 1])
    ids, mask = torch.tensor(batch.input_ids).long(), torch.tensor(batch.attention_mask).long()
    loaded = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype="auto").eval()
    assert loaded.dtype == torch.float64
    ours = load_model(task, 1).whole_outputs(weights_of(tmp_path / "run"), batch)
    logits = scored_logits(batch, loaded(input_ids=ids, attention_mask=mask).logits)
    assert ulps_apart(ours.logits, logits) <= 64  # transformers has other kernels
    text = "a text"
    assert AutoTokenizer.from_pretrained(folder).encode(text) == task.tokens.tokenizer.encode([text])[0]
    files = Record.open(tmp_path / "run").manifest["files"]
    assert {f"model/{path.name}" for path in folder.iterdir()} == {one for one in files if "/" in one}


@pytest.mark.parametrize("untie", [False, True])
def test_a_checkpoint_of_a_classifier_or_an_untied_head_says_so(untie, full, tmp_path):
    task = "causal_lm" if untie else "classification"
    scheme = {"kind": "split_federated" if untie else "federated", "num_rounds": 1, "local_steps": 1}
    scenario = full({"model.task": task, "trainable.untie_head": untie, "scheme": scheme})
    folder = run(scenario, tmp_path / "run") / "model"
    found = weights_of(tmp_path / "run")
    if untie:
        model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not torch.equal(found["lm_head.weight"], found["transformer.wte.weight"])
        assert torch.equal(model.lm_head.weight.double(), found["lm_head.weight"])
    else:
        model, loading = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        labels = prepare(scenario).task.labels
        assert model.config.id2label == dict(enumerate(labels))
        assert torch.equal(model.score.weight.double(), found["score.weight"])
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]


def test_one_client_behind_a_cut_learns_what_centralised_training_does_bit_for_bit(full, tmp_path):
    common = {"clients.count": 1, "trainable.untie_head": True}
    folders = [
        run(full({**common, "scheme.kind": kind}), tmp_path / kind)
        for kind in ("split_federated", "centralized")
    ]
    split, whole = (weights_of(folder) for folder in folders)
    assert split.keys() == whole.keys()
    assert all(torch.equal(split[name], whole[name]) for name in split)
    assert losses_of(folders[0]) == losses_of(folders[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": {"kind": "federated", "participation": 0.6}},
        {"scheme": {"kind": "split_federated"}, "trainable.untie_head": True},
        {"scheme": {"kind": "split_federated"}, "model.task": "classification"},
    ],
    ids=["federated", "split", "classifier"],
)
def test_clients_computed_together_learn_the_same(changes, full, tmp_path):
    one, all_ = (
        weights_of(run(full({**changes, "training.executor": executor}), tmp_path / executor))
        for executor in ("sequential", "batched")
    )
    assert max(float((one[name] - all_[name]).abs().max()) for name in one) <= 1e-11


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": {"kind": "federated"}, "scheme.adapter_codec": {"kind": "top_k", "error_feedback": True}},
        {"scheme": {"kind": "federated"}, "scheme.adapter_codec": {"kind": "qsgd"}},
        {
            "scheme": {"kind": "split_federated", "activation_codec": {"kind": "float16"}},
            "scheme.adapter_codec": {"kind": "float16"},
            "trainable.untie_head": True,
        },
        {"scheme": {"kind": "asynchronous"}, "scheme.adapter_codec": {"kind": "top_k"}},
        {
            "scheme": {"kind": "split_federated"},
            "trainable.untie_head": True,
            "clients": [{"count": 1, "cut_layer": 1}, {"count": 2, "cut_layer": 2}],
        },
    ],
    ids=["top_k", "qsgd", "narrow", "asynchronous", "cut apart"],
)
def test_the_loss_falls_through_codecs_and_cuts(changes, full, tmp_path):
    changes = {"training.optimizer": {"kind": "sgd", "learning_rate": 0.3}, "scheme.num_rounds": 3, **changes}
    folder = run(full({**changes, "model.dtype": "float32"}), tmp_path / "run")
    evaluated = [value for at, value in losses_of(folder).items() if at[-1] == "eval_loss"]
    assert evaluated[-1] < evaluated[0] - 1e-3


def test_an_upload_is_as_many_bits_as_the_parameters_have(full, play):
    world = play(full({"scheme.kind": "federated", "model.dtype": "float32"}))
    spans = world.log.spans
    spans.settle()
    bits = {name: amount for name, amount in zip(spans.name, spans.bits, strict=True) if amount}
    num_weights = world.task.shape.num_weights
    assert bits == {"adapter_upload": 32 * num_weights, "adapter_download": 32 * num_weights}
    assert "lora_rank" not in world.log.metrics.name


def test_a_run_that_was_stopped_ends_with_the_same_bytes(full, tmp_path):
    scenario = full({"scheme": {"kind": "federated", "num_rounds": 2, "local_steps": 1}})
    whole = run(scenario, tmp_path / "whole")

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.round == 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(scenario, tmp_path / "stopped", watch=stop)
    stopped = resume(tmp_path / "stopped")
    one, other = (Record.open(folder).manifest["fingerprints"] for folder in (whole, stopped))
    assert one == other
    assert weights_of(whole).keys() == weights_of(stopped).keys()


def test_some_roles_alone_are_trained_behind_a_cut_too_and_the_checkpoint_has_the_rest(
    tiny_scenario, tmp_path
):
    """The head is tied to the token embedding: neither is trained, so the cut between them is no matter."""
    scenario = tiny_scenario({"trainable": {"kind": "full", "only": ["attention"]}})
    assert scenario.scheme.is_cut
    folder = run(scenario, tmp_path / "run")
    saved = AutoModelForCausalLM.from_pretrained(folder / "model")
    base = scenario.model.base.load("causal_lm", 0, "float32")
    for (name, trained), before in zip(saved.named_parameters(), base.parameters(), strict=True):
        assert torch.equal(trained, before) == ("attn" not in name), name
