"""Rebuild the embedded tokenizer and base model: ``python -m cosim.learning.embedded.pretrain``.

Both learn from every domain but the held-out one, whose loss is only measured.
One thread and explicit generators: the same machine type and library versions
give the same bytes again. It takes some minutes of one core.
"""

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from cosim.files import write_whole
from cosim.learning.embedded import CONFIG_FILE, END, FOLDER, REPORT_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from cosim.learning.embedded.grammar import DOMAINS, HELD_OUT, SEPARATOR, Example, split
from cosim.rng import stream

SEEN = tuple(domain for domain in DOMAINS if domain != HELD_OUT)
"""The domains the base model learns from."""

SEED = 20
VOCABULARY_SIZE = 1024
NUM_STEPS = 3000
BATCH_SIZE = 32
PEAK_LEARNING_RATE = 2e-3
LABEL_SMOOTHING = 0.1  # or the base is so sure of its few domains that any new word costs 20 nats

_WARM_UP_SHARE = 0.04
_BATCHES_PER_BUCKET = 16  # examples of about one length go together, so that little is padding
_TOKENIZER_EXAMPLES = 4000  # of each domain
_TEST_EXAMPLES = 200
_IGNORED = -100
_SPLIT = (
    r"(?: \| )?\w+ :| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s"  # a slot's name with its marks is one piece
)


def main() -> None:
    """Read the command line and pre-train."""
    parser = argparse.ArgumentParser(description="Pre-train the embedded base model and its tokenizer.")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder for the files (default: the package)"
    )
    parser.add_argument("--steps", type=int, default=NUM_STEPS, help=f"optimiser steps (default {NUM_STEPS})")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error(f"--steps must be at least 1, got {arguments.steps}")
    print(json.dumps(pretrain(arguments.out, arguments.steps, log_every=100), indent=2))


def pretrain(folder: Path, num_steps: int = NUM_STEPS, log_every: int = 0) -> dict[str, Any]:
    """Train tokenizer and model, write their files into ``folder`` and return what was measured.

    Parameters
    ----------
    folder
        Made if it is not there.
    num_steps
        Optimiser steps, each of ``BATCH_SIZE`` fresh examples.
    log_every
        Steps between two printed losses; 0 prints none.

    Raises
    ------
    ValueError
        If ``num_steps`` is not positive.
    """
    if num_steps < 1:
        raise ValueError(f"pre-training takes at least one step, got {num_steps}")
    folder.mkdir(parents=True, exist_ok=True)
    with _reproducible():
        tokenizer = train_tokenizer()
        _save_tokenizer(tokenizer, folder)
        model = _fresh_model(tokenizer)
        losses = _train(model, tokenizer, num_steps, log_every)
        _save_model(model, folder)
        report = {
            "steps": num_steps,
            "batch_size": BATCH_SIZE,
            "seed": SEED,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "label_smoothing": LABEL_SMOOTHING,
            "final_training_loss": round(float(np.mean(losses[-100:])), 6),
            "target_loss_by_domain": measured_losses(folder),
            "held_out_domain": HELD_OUT,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": 1,
            "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
            "sha256": {
                name: sha256((folder / name).read_bytes()).hexdigest()
                for name in (WEIGHTS_FILE, TOKENIZER_FILE)
            },
        }
    write_whole(folder / REPORT_FILE, (json.dumps(report, indent=2) + "\n").encode())
    return report


def train_tokenizer() -> Tokenizer:
    """Return a byte-level BPE tokenizer of the seen domains; any text survives it unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [_line(example) for domain in SEEN for example in split(domain, _TOKENIZER_EXAMPLES, 0, SEED)[0]]
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def measured_losses(folder: Path, domains: Sequence[str] = DOMAINS) -> dict[str, float]:
    """Return the mean loss of a target token by domain, nats, of a saved model on meanings kept for tests."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    losses = {}
    for domain in domains:
        _, examples = split(domain, 0, _TEST_EXAMPLES, SEED)
        with torch.no_grad():
            loss = _loss(model, [_encoded(tokenizer, example) for example in examples], targets_only=True)
        losses[domain] = round(float(loss), 6)
    return losses


def _line(example: Example) -> str:
    return f"{example.mr}{SEPARATOR}{example.text}"


def _encoded(tokenizer: Tokenizer, example: Example) -> tuple[list[int], int]:
    """Return the tokens of an example with its end, and how many of them are the prompt."""
    prompt = tokenizer.encode(example.mr + SEPARATOR).ids
    target = tokenizer.encode(example.text + END).ids
    return [*prompt, *target], len(prompt)


def _loss(
    model: GPT2LMHeadModel, rows: Sequence[tuple[list[int], int]], targets_only: bool, smoothing: float = 0.0
) -> Tensor:
    """Return the mean loss of a token in nats, of the targets only or of the prompts as well."""
    longest = max(len(ids) for ids, _ in rows)
    input_ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    attention_mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    labels = torch.full((len(rows), longest), _IGNORED, dtype=torch.int64)
    for row, (ids, prompt) in enumerate(rows):
        first = prompt if targets_only else 0
        input_ids[row, : len(ids)] = torch.tensor(ids)
        attention_mask[row, : len(ids)] = True
        labels[row, first : len(ids)] = torch.tensor(ids[first:])
    logits: Tensor = model(input_ids=input_ids, attention_mask=attention_mask).logits
    return cross_entropy(
        logits[:, :-1].flatten(0, 1),
        labels[:, 1:].flatten(),
        ignore_index=_IGNORED,
        label_smoothing=smoothing,
    )


def _batches(tokenizer: Tokenizer, num_steps: int) -> Iterator[list[tuple[list[int], int]]]:
    """Yield batches of examples never seen before, domains in equal shares."""
    rng = stream(SEED, "pretrain", "order").generator()
    each = -(-num_steps * BATCH_SIZE // len(SEEN))
    examples = [example for domain in SEEN for example in split(domain, each, 0, SEED)[0]]
    order = rng.permutation(len(examples))
    bucket_size = BATCH_SIZE * _BATCHES_PER_BUCKET
    for start in range(0, len(order), bucket_size):
        rows = [_encoded(tokenizer, examples[index]) for index in order[start : start + bucket_size]]
        rows.sort(key=lambda row: len(row[0]))
        batches = [rows[first : first + BATCH_SIZE] for first in range(0, len(rows), BATCH_SIZE)]
        for index in rng.permutation(len(batches)):
            yield batches[index]


def _fresh_model(tokenizer: Tokenizer) -> GPT2LMHeadModel:
    end = tokenizer.token_to_id(END)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_positions=128,
        n_embd=128,
        n_layer=4,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        architectures=["GPT2LMHeadModel"],
        dtype="float32",  # the file holds half precision; computing is done in single
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(SEED, "pretrain", "weights").torch_seed())
        return GPT2LMHeadModel(config)


def _train(model: GPT2LMHeadModel, tokenizer: Tokenizer, num_steps: int, log_every: int) -> list[float]:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    model.train()
    losses: list[float] = []
    for step, rows in zip(range(num_steps), _batches(tokenizer, num_steps), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, num_steps)
        loss = _loss(model, rows, targets_only=False, smoothing=LABEL_SMOOTHING)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if log_every and (step + 1) % log_every == 0:
            print(f"step {step + 1}: loss {np.mean(losses[-log_every:]):.4f}", flush=True)
    return losses


def _learning_rate(step: int, num_steps: int) -> float:
    """Return the rate of a step: a linear rise, then half a cosine down to nothing."""
    warm_up = max(1, round(_WARM_UP_SHARE * num_steps))
    if step < warm_up:
        return PEAK_LEARNING_RATE * (step + 1) / warm_up
    return PEAK_LEARNING_RATE * 0.5 * (1 + cos(pi * (step - warm_up) / max(1, num_steps - warm_up)))


def _save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=128
    )
    wrapped.save_pretrained(folder)


def _save_model(model: GPT2LMHeadModel, folder: Path) -> None:
    """Write the weights in half precision; the output layer is the embedding and is left out."""
    weights = {
        name: value.detach().half().contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    write_whole(folder / WEIGHTS_FILE, save(weights, metadata={"format": "pt"}))
    model.config.to_json_file(folder / CONFIG_FILE, use_diff=True)


@contextmanager
def _reproducible() -> Iterator[None]:
    """Compute on one thread and by deterministic algorithms only, and put both back afterwards."""
    num_threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        torch.use_deterministic_algorithms(strict)


if __name__ == "__main__":
    main()
