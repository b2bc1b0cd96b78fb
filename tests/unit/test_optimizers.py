from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from cosim.learning.optimizer import Optimizer
from cosim.learning.optimizer.adamw import AdamW
from cosim.learning.optimizer.sgd import Sgd
from cosim.testing.ulps import ulps_apart

NUM_STEPS = 7
PAIRS: dict[str, tuple[Optimizer, Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "adamw": (AdamW(), lambda p: torch.optim.AdamW(p)),
    "adamw without decay": (
        AdamW(learning_rate=0.05, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.0),
        lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.0),
    ),
    "adamw clipped": (
        AdamW(learning_rate=0.01, weight_decay=0.3, max_grad_norm=0.8),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3),
    ),
    "sgd": (Sgd(learning_rate=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "sgd with momentum": (
        Sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.05),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.05),
    ),
    "sgd nesterov clipped": (
        Sgd(learning_rate=0.1, momentum=0.8, nesterov=True, max_grad_norm=0.8),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True),
    ),
    "sgd barely clipped": (
        Sgd(learning_rate=0.1, max_grad_norm=1e6),
        lambda p: torch.optim.SGD(p, lr=0.1),
    ),
}
SHAPES = {"up.lora_A": (4, 33), "up.lora_B": (65, 4), "down": (7,), "scale": ()}


def numbers(seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()}
    drawn["up.lora_B"][:20] = -0.0  # a fresh adapter's B is zero, and so are gradients behind it
    return drawn


def bits(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_steps_are_those_of_torch_to_the_last_bit(name: str, dtype: torch.dtype) -> None:
    ours, theirs = PAIRS[name]
    parameters = numbers(0, dtype)
    reference = {key: tensor.clone().requires_grad_() for key, tensor in parameters.items()}
    optimizer = theirs(list(reference.values()))
    state = ours.start(parameters)
    for step in range(NUM_STEPS):
        gradients = numbers(step + 1, dtype)
        for key, tensor in reference.items():
            tensor.grad = gradients[key].clone()
        if ours.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(reference.values(), ours.max_grad_norm)
        optimizer.step()
        parameters, state = ours.step(parameters, gradients, state, step, NUM_STEPS)
        assert bits(parameters) == bits({key: tensor.detach() for key, tensor in reference.items()})


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup_steps", [0, 3])
def test_rates_are_those_of_transformers(schedule: str, warmup_steps: int) -> None:
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=20)
    ours = Sgd(learning_rate=0.3, schedule=schedule, warmup_steps=warmup_steps)
    for step in range(21):
        # near the end a cosine takes one from one: its roundings are those of the rate it began with
        assert ulps_apart(ours.rate(step, 20), scheduler.get_last_lr()[0], size=0.3) <= 4
        optimizer.step()
        scheduler.step()


@settings(deadline=None)
@given(
    step=st.integers(0, 300),
    num_steps=st.integers(0, 200),
    warmup=st.integers(0, 250),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
)
def test_a_rate_is_never_negative_nor_above_the_learning_rate(
    step: int, num_steps: int, warmup: int, schedule: str
) -> None:
    assert 0.0 <= Sgd(learning_rate=0.1, schedule=schedule, warmup_steps=warmup).rate(step, num_steps) <= 0.1


@pytest.mark.parametrize("optimizer", [AdamW(max_grad_norm=0.1), Sgd(momentum=0.9, weight_decay=0.1)])
def test_a_step_writes_into_nothing_it_was_given(optimizer: Optimizer) -> None:
    parameters, gradients = numbers(0, torch.float32), numbers(1, torch.float32)
    state = optimizer.start(parameters)
    before = bits(parameters), bits(gradients), bits(state)
    new, kept = optimizer.step(parameters, gradients, state, 0, 1)
    assert (bits(parameters), bits(gradients), bits(state)) == before
    for name, tensor in {**new, **kept}.items():
        tensor.zero_()
        assert name
    assert (bits(parameters), bits(gradients), bits(state)) == before


def test_a_state_saved_and_read_goes_on_the_same(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    optimizer = AdamW()
    parameters, gradients = numbers(0, torch.float32), numbers(1, torch.float32)
    parameters, state = optimizer.step(parameters, gradients, optimizer.start(parameters), 0, 2)
    save_file(state, tmp_path / "state.safetensors")
    read = load_file(tmp_path / "state.safetensors")
    went_on, again = (optimizer.step(parameters, gradients, one, 1, 2) for one in (state, read))
    assert bits(went_on[0]) == bits(again[0])
    assert bits(went_on[1]) == bits(again[1])


def test_the_bias_correction_follows_the_state_and_not_the_step_of_the_run() -> None:
    parameters, gradients = numbers(0, torch.float32), numbers(1, torch.float32)
    first, tenth = (
        AdamW().step(parameters, gradients, AdamW().start(parameters), step, 20)[0] for step in (0, 10)
    )
    assert bits(first) == bits(tenth)


def test_gradients_must_have_the_names_of_the_parameters() -> None:
    parameters = numbers(0, torch.float32)
    with pytest.raises(ValueError, match="differ in names: scale"):
        Sgd().step(parameters, {k: v for k, v in parameters.items() if k != "scale"}, {}, 0, 1)


def test_no_parameters_are_no_trouble() -> None:
    for optimizer in (AdamW(max_grad_norm=1.0), Sgd(momentum=0.5)):
        assert optimizer.step({}, {}, optimizer.start({}), 0, 1)[0] == {}


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValidationError, match="nesterov needs a momentum above 0"):
        Sgd(nesterov=True)


@pytest.mark.parametrize("kind", [AdamW, Sgd])
def test_rank_pairs_step_by_a_power_of_their_number(kind: type[AdamW | Sgd]) -> None:
    """Rows of A and columns of B, of one client and of several stacked; what is no factor steps in full."""
    before, gradients = numbers(0, torch.float64), numbers(1, torch.float64)
    stacks = [{name: torch.stack([one, one]) for name, one in given.items()} for given in (before, gradients)]
    for parameters, downhill in ((before, gradients), stacks):
        plain, slower = (
            rule.step(parameters, downhill, rule.start(parameters), 0, NUM_STEPS)[0]
            for rule in (kind(learning_rate=0.1), kind(learning_rate=0.1, rank_decay=0.5))
        )
        for name, tensor in parameters.items():
            share = torch.ones((), dtype=torch.float64)
            if "lora" in name:
                share = torch.arange(1, 5, dtype=torch.float64) ** -0.5
                share = share[:, None] if "lora_A" in name else share
            assert torch.allclose(slower[name] - tensor, share * (plain[name] - tensor), rtol=1e-12)
