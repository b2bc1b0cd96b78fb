"""LoRA dropout from a stream of its own per block, so that under one seed the cut changes nothing."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from cosim.rng import stream


class LoraDropouts:
    """The dropouts of the adapters of all blocks, those of the base not among them; off but for a while.

    Parameters
    ----------
    blocks
        The blocks, from the first on.
    device
        What they compute on: its generator is seeded, and put back as it was.
    """

    def __init__(self, blocks: Iterable[nn.Module], device: torch.device) -> None:
        self._device = device
        self._of_block = [list(_active(block)) for block in blocks]

    @contextmanager
    def on(self, index: int, seed: int | None) -> Iterator[None]:
        """Let a block, counted from 0, drop what is drawn under a seed; without one, nothing."""
        if seed is None or not self._of_block[index]:
            yield
            return
        cuda = cuda_devices(self._device)
        with torch.random.fork_rng(devices=cuda):
            # torch.manual_seed would seed every device, and those of others are none of our business.
            generator = torch.cuda.default_generators[cuda[0]] if cuda else torch.default_generator
            generator.manual_seed(stream(seed, "lora dropout", index).torch_seed())
            for dropout in self._of_block[index]:
                dropout.training = True
            try:
                yield
            finally:
                for dropout in self._of_block[index]:
                    dropout.training = False


def cuda_devices(device: torch.device) -> list[int]:
    """Return the number of a GPU, as ``torch.random.fork_rng`` takes it; none of another device."""
    return [device.index or 0] if device.type == "cuda" else []


def _active(block: nn.Module) -> Iterator[nn.Module]:
    for name, module in block.named_modules():
        if name.endswith(".lora_dropout"):
            yield from (one for one in module.modules() if type(one) is nn.Dropout and one.p > 0.0)
