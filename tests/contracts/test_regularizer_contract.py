import pytest
import torch

from cosim.learning.regularizer import Regularizer
from cosim.learning.regularizer.none import Unregularized
from cosim.learning.regularizer.orthogonality import Orthogonality
from cosim.parts import make
from cosim.testing import contract
from cosim.testing.contracts.regularizer import adapter

globals().update(contract(Regularizer))


@pytest.mark.parametrize("form", ["cos", "off", "id"])
def test_the_gradient_of_orthogonality_is_that_of_autograd(form: str) -> None:
    here = adapter()
    factors = {name: tensor.clone().requires_grad_() for name, tensor in here.items() if "lora" in name}
    loss = torch.zeros((), dtype=torch.float64)
    for name, factor in factors.items():
        rows = factor.T if "lora_B" in name else factor
        if form == "cos":
            rows = rows / (rows.norm(dim=1, keepdim=True).detach() + 1e-3)
        gram = rows @ rows.T
        eye = torch.eye(len(gram), dtype=torch.float64)
        loss = loss + ((gram - eye) if form == "id" else gram * (1 - eye)).square().sum()
    loss = 0.3 * loss
    loss.backward()
    part = make(Regularizer, {"kind": "orthogonality", "form": form, "weight": 0.3})
    own = part.gradient(here)
    assert own.keys() == factors.keys()
    assert part.loss(here) == pytest.approx(loss.item())
    for name, factor in factors.items():
        assert factor.grad is not None
        assert torch.allclose(own[name], factor.grad, rtol=1e-12, atol=1e-12)


def test_balance_draws_both_halves_of_a_pair_to_one_length() -> None:
    here = adapter()
    factors = {name: tensor.clone().requires_grad_() for name, tensor in here.items() if "lora" in name}
    loss = torch.zeros((), dtype=torch.float64)
    for name, a in factors.items():
        if "lora_A" in name:
            b = factors[name.replace("lora_A", "lora_B")]
            loss = loss + 0.3 * (b.square().sum(dim=0) - a.square().sum(dim=1)).square().sum()
    loss.backward()
    part, plain = Orthogonality(balance=0.3), Orthogonality()
    assert part.loss(here) - plain.loss(here) == pytest.approx(loss.item())
    own, others = part.gradient(here), plain.gradient(here)
    for name, factor in factors.items():
        assert factor.grad is not None
        assert torch.allclose(own[name] - others[name], factor.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", ["cos", "off"])
def test_orthogonal_factors_are_left_alone(form: str) -> None:
    part = make(Regularizer, {"kind": "orthogonality", "form": form})
    rows = torch.linalg.qr(torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    stretched = rows.Q.T * torch.tensor([[1.0], [20.0], [0.05]], dtype=torch.float64)
    here = {"q.lora_A.weight": stretched, "q.lora_B.weight": stretched.T}
    assert part.loss(here) < 1e-20
    assert max(float(one.abs().max()) for one in part.gradient(here).values()) < 1e-12


def test_a_b_of_zero_is_left_alone() -> None:
    here = {name: tensor * (".lora_A." in name) for name, tensor in adapter().items()}
    own = Orthogonality().gradient(here)
    assert all(not one.any() for name, one in own.items() if ".lora_B." in name)


def test_only_the_identity_makes_all_pairs_equally_long() -> None:
    long_and_short = {
        "q.lora_A.weight": torch.diag(torch.tensor([10.0, 0.1])),
        "q.lora_B.weight": torch.diag(torch.tensor([10.0, 0.1])),
    }
    assert not Orthogonality(form="cos").loss(long_and_short)
    assert not Orthogonality(form="off").loss(long_and_short)
    assert Orthogonality(form="id").loss(long_and_short) > 1.0
    assert [Orthogonality(form=form).equalises_norms for form in ("cos", "off", "id")] == [False, False, True]


def test_nothing_is_added_by_none() -> None:
    gradients = adapter(1)
    assert Unregularized().is_none
    assert all(one is gradients[name] for name, one in Unregularized().added(adapter(), gradients).items())
