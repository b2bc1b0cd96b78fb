"""What is foreseen of a payload is what it turns out to be."""

from types import SimpleNamespace

import pytest

from cosim.learning.aggregator.fedavg import FEDAVG
from cosim.learning.amounts import download_bits, upload_bits
from cosim.learning.architectures import FAMILIES
from cosim.learning.codec import Layout
from cosim.learning.codecs import NO_CODECS
from cosim.learning.local_rule.none import NO_RULE
from cosim.learning.payload import adapter_layout
from cosim.learning.settings import Model
from cosim.learning.shape import ModelShape
from cosim.learning.trainable.lora import Lora
from cosim.testing.tiny_bases import NUM_LABELS, TINY, USES
from tests.tiny_bases import HOOKED, tiny_model

RANK = 2
LORAS = (Lora(rank=RANK), Lora(rank=RANK, target_modules=("all-linear",)), Lora(rank=RANK, blocks=(1, 3)))


def asked_of(family, task, lora, dtype="float64"):
    """What a layout asks of a task."""
    shape = ModelShape.read(TINY[family], task, NUM_LABELS if task == "classification" else 0)
    task = SimpleNamespace(
        shape=shape,
        trainable=lora,
        model=Model(dtype=dtype),
        aggregator=FEDAVG,
        codecs=NO_CODECS,
        rule=NO_RULE,
        private=frozenset(),
        num_clients=2,
    )
    task.in_round = lambda round_: task
    return task


def test_every_family_has_a_layout():
    assert {family for family, _ in USES} | set(HOOKED) == set(FAMILIES)


@pytest.mark.parametrize("lora", LORAS, ids=["default", "all-linear", "some blocks"])
@pytest.mark.parametrize(("family", "task"), USES)
class TestAdapterLayout:
    def test_is_that_of_the_tensors(self, family, task, lora):
        model = tiny_model(family, task, lora)
        tensors = model.initial_adapter()
        assert list(adapter_layout(asked_of(family, task, lora), 3, RANK).shapes.items()) == [
            (name, tuple(tensors[name].shape)) for name in model.names
        ]

    def test_of_the_first_blocks_it_is_the_client_s(self, family, task, lora):
        model = tiny_model(family, task, lora)
        layout = adapter_layout(asked_of(family, task, lora), 2, RANK)
        assert tuple(layout.shapes) == model.client_names(2)

    def test_of_one_factor_it_is_half_the_names(self, family, task, lora):
        both, one = (
            adapter_layout(asked_of(family, task, lora), 2, RANK, factors) for factors in ({"A", "B"}, {"B"})
        )
        assert list(one.shapes) == [name for name in both.shapes if ".lora_B." in name]

    @pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
    def test_counts_the_bits_of_what_is_trained(self, family, task, lora, dtype):
        tensors = tiny_model(family, task, lora, dtype).initial_adapter()
        bits = Layout.of(tensors).dense_bits
        asked = asked_of(family, task, lora, dtype)
        assert bits == adapter_layout(asked, 3, RANK).dense_bits == upload_bits(asked, 3, RANK, 1)
        assert bits == download_bits(asked, 3, RANK, RANK, 1)
