import pytest
import torch

from cosim.learning.codec import Codec, Layout
from cosim.testing import contract

globals().update(contract(Codec))


def test_tensors_of_several_formats_are_not_sent_together() -> None:
    tensors = {"one": torch.zeros(2), "two": torch.zeros(2, dtype=torch.float64)}
    with pytest.raises(ValueError, match="float32, float64"):
        Layout.of(tensors)
