"""What every base model keeps, run over each part's examples."""

from pathlib import Path

import pytest
import torch

from cosim.learning.base import Base
from cosim.learning.base.random import RandomBase
from cosim.parts import make
from cosim.testing.selection import under_test

EXAMPLES = [
    pytest.param(
        {"kind": kind, **example},
        id=f"{kind}-{number}",
        marks=pytest.mark.skip(reason="its weights are fetched from elsewhere") if part.is_fetched else (),
    )
    for kind, part in under_test(Base).items()
    for number, example in enumerate(part.examples)
]


@pytest.fixture(autouse=True)
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out the model that the parts' examples name, in a fresh working folder."""
    monkeypatch.chdir(tmp_path)
    RandomBase(**RandomBase.examples[0]).load("causal_lm", 0, "float32").save_pretrained(
        tmp_path / "models" / "my-model"
    )


@pytest.mark.parametrize("example", EXAMPLES)
class TestEveryBase:
    def test_says_what_it_is_before_it_is_loaded(self, example: dict[str, object]) -> None:
        base = make(Base, example)
        assert base.shape().num_layers >= 2
        assert base.read_config()["model_type"]
        assert base.describe()
        assert base.name_or_path
        assert "\n" not in base.describe() + base.name_or_path + (base.warning or "")

    def test_has_one_key_for_one_model(self, example: dict[str, object]) -> None:
        keys = {make(Base, example).content_key() for _ in range(2)}
        assert len(keys) == 1
        assert bytes.fromhex(keys.pop())

    def test_gives_the_same_weights_again_and_draws_from_nothing(self, example: dict[str, object]) -> None:
        before = torch.get_rng_state()
        one, two = (make(Base, example).load("causal_lm", 0, "float32") for _ in range(2))
        assert torch.equal(before, torch.get_rng_state())
        assert not one.training
        weights = dict(two.named_parameters())
        assert weights
        for name, tensor in one.named_parameters():
            assert torch.equal(tensor, weights[name])
            assert tensor.dtype == torch.float32

    def test_is_as_large_as_its_shape_says(self, example: dict[str, object]) -> None:
        base = make(Base, example)
        config = base.load("causal_lm", 0, "float32").config
        shape = base.shape()
        assert (shape.num_layers, shape.vocab_size) == (config.num_hidden_layers, config.vocab_size)

    def test_survives_being_written_to_a_file_and_read(self, example: dict[str, object]) -> None:
        base = make(Base, example)
        assert make(Base, base.model_dump(mode="json", exclude_none=True)) == base
