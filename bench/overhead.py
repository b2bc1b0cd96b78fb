"""A full run against the bare PyTorch loop that does the same arithmetic with no simulator."""

import tempfile
from pathlib import Path
from time import perf_counter
from warnings import catch_warnings, simplefilter

from bench.ratio import Ratio
from cosim.run import run
from cosim.scenario.build import prepare
from cosim.scenario.load import change
from cosim.scenario.settings import Scenario
from cosim.world import Progress

NUM_CLIENTS, CUT_LAYER, NUM_ROUNDS, LOCAL_STEPS, REPEATS = 8, 1, 3, 4, 3


def measure() -> list[Ratio]:
    """Return wall time of the rounds of a run over that of the bare loop, the least of several of each."""
    scenario = change(
        Scenario(name="overhead"),
        {
            "scheme.num_rounds": NUM_ROUNDS,
            "scheme.local_steps": LOCAL_STEPS,
            "scheme.evaluate_every": NUM_ROUNDS,
            "model.cut_layer": CUT_LAYER,
            "data.source.num_test": 8,
            "clients.count": NUM_CLIENTS,
            "radio.fading": {"kind": "rayleigh_block", "coherence_time_s": 0.05},
        },
    )
    simulated, bare = [], []
    for _ in range(REPEATS):
        simulated.append(_run_s(scenario))
        bare.append(_bare_s(scenario))
    note = f"{min(simulated):.2f} s against {min(bare):.2f} s for {NUM_ROUNDS - 1} rounds"
    name = f"full run / bare PyTorch loop ({NUM_CLIENTS} clients, 4x128 GPT-2, 64 tokens)"
    return [Ratio(name, min(simulated) / min(bare), 1.10, note=note)]


def _run_s(scenario: Scenario) -> float:
    """Return the wall time of all rounds but the last, whose evaluation is not in the loop."""
    at: dict[int, float] = {}

    def watch(progress: Progress) -> None:
        at[progress.round] = perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        run(scenario, Path(folder) / "run", watch=watch)
    return at[NUM_ROUNDS - 1] - at[0]


def _bare_s(scenario: Scenario) -> float:
    """Return the wall time of the same rounds written down as a PyTorch user would, with PEFT alone."""
    import torch
    from peft import get_peft_model
    from torch.nn.functional import cross_entropy

    task = prepare(scenario).task
    tokens = task.tokens.train
    base = scenario.model.base.load("causal_lm", 0, "float32")
    with catch_warnings():
        simplefilter(
            "ignore"
        )  # peft asks transformers a question under a name that newer releases have renamed
        model = get_peft_model(base, scenario.lora.peft_config(task.shape, "base")).eval()
    transformer, head = base.transformer, base.lm_head
    trained = [
        [weights for weights in block.parameters() if weights.requires_grad] for block in transformer.h
    ]
    mine = [weights for block in trained[:CUT_LAYER] for weights in block]
    server = [weights for block in trained[CUT_LAYER:] for weights in block]
    clients = [[weights.detach().clone().requires_grad_() for weights in mine] for _ in range(NUM_CLIENTS)]
    rate = scenario.training.optimizer.learning_rate
    optimizers = [torch.optim.AdamW(one, lr=rate) for one in clients]
    server_optimizer = torch.optim.AdamW(server, lr=rate)
    size, length = scenario.training.batch_size, scenario.data.sequence_length
    lowest = torch.finfo(torch.float32).min
    causal = torch.full((length, length), lowest).triu(1)[None, None]
    del model
    begin = perf_counter()
    for round_ in range(NUM_ROUNDS - 1):
        for step in range(LOCAL_STEPS):
            server_optimizer.zero_grad()
            for client in range(NUM_CLIENTS):
                first = (round_ * LOCAL_STEPS + step) * size
                share = task.shares[client]
                rows = [share[row % len(share)] for row in range(first, first + size)]
                batch = tokens.batch(rows)
                ids, labels = torch.tensor(batch.input_ids), torch.tensor(batch.labels)
                padding = torch.where(torch.tensor(batch.attention_mask), 0.0, lowest)[:, None, None, :]
                mask = torch.minimum(padding, causal)
                with torch.no_grad():
                    for weights, own in zip(mine, clients[client], strict=True):
                        weights.copy_(own)
                hidden = transformer.wte(ids) + transformer.wpe(torch.arange(length))
                for block in transformer.h[:CUT_LAYER]:
                    hidden = block(hidden, attention_mask=mask)
                sent = hidden.detach().requires_grad_()
                hidden_at_server = sent
                for block in transformer.h[CUT_LAYER:]:
                    hidden_at_server = block(hidden_at_server, attention_mask=mask)
                logits = head(transformer.ln_f(hidden_at_server))
                loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
                gradients = torch.autograd.grad(loss, [sent, *server])
                for weights, gradient in zip(server, gradients[1:], strict=True):
                    scaled = gradient / NUM_CLIENTS
                    weights.grad = scaled if weights.grad is None else weights.grad + scaled
                for own, gradient in zip(
                    clients[client], torch.autograd.grad(hidden, mine, gradients[0]), strict=True
                ):
                    own.grad = gradient
                optimizers[client].step()
            server_optimizer.step()
        with torch.no_grad():
            for together in zip(*clients, strict=True):
                average = torch.stack([one.detach() for one in together]).mean(0)
                for one in together:
                    one.copy_(average)
    return perf_counter() - begin
