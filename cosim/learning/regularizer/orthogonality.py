"""Rank pairs pushed apart, so that each can be judged, and sent, by itself."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from cosim.learning.regularizer import Regularizer, Tensors

if TYPE_CHECKING:
    from torch import Tensor

_NORM_OFFSET = 1e-3  # added to norms: B begins at zero


class Orthogonality(Regularizer):
    """Near-orthogonality of the columns of B, and of the rows of A, of every adapted matrix.

    With both orthogonal, the products of norms of the pairs are the singular
    values of BA, and what is lost without some pairs is exactly their energy.
    The product BA itself is left free: LoRA's factors can be mixed without
    changing it, and the regulariser chooses among the mixings.

    Attributes
    ----------
    form
        What is punished, squared and summed. ``cos``: cosines between pairs, the norms
        taken as constants, so that no pair shrinks for it. ``off``: inner products.
        ``id``: the distance of B^T B and A A^T from the identity, as AdaLoRA has it; it
        makes all pairs equally long, so their norms no longer tell them apart.
    weight
        Factor of the term in the loss. The term is a sum over pairs of pairs in all
        matrices: the more of them, the smaller the weight must be. The push of ``cos``
        grows as pairs get shorter, and B begins at zero: an optimiser that does not
        scale its steps (SGD) needs less.
    balance
        Factor of a second term, the sum over pairs of (|b|^2 - |a|^2)^2, which draws the two halves of each
        pair to one length: while b is short, a change of a takes as many bits and does next to nothing.

    Source
    ------
    SOFT, arXiv 2505.00333, imposes near-orthogonality; the paper's form is not
    known to us. ``cos`` is our choice. Q. Zhang et al., "AdaLoRA", ICLR 2023, eq. 4, for ``id``.
    S. Tu et al., "Low-rank solutions of linear matrix equations via Procrustes flow", ICML 2016, for
    ``balance``: they punish |B^T B - A A^T|^2, of which we take the diagonal, as ``form`` sees to the rest.
    """

    needs_factors: ClassVar[bool] = True

    kind: Literal["orthogonality"] = "orthogonality"
    form: Literal["cos", "off", "id"] = "cos"
    weight: float = Field(default=1e-3, gt=0.0)
    balance: float = Field(default=0.0, ge=0.0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"form": "off", "weight": 0.01},
        {"form": "id", "weight": 1.0},
        {"balance": 0.1},
    )

    @property
    def equalises_norms(self) -> bool:
        """Whether it draws the norms of all pairs together, which blinds importance by norms."""
        return self.form == "id"

    def loss(self, adapter: Tensors) -> float:
        """Return the term, weight included."""
        total = sum(float(gram.square().sum()) for _, _, _, gram in self._grams(adapter))
        uneven = sum(float(gap.square().sum()) for _, _, gap in self._gaps(adapter))
        return self.weight * total + self.balance * uneven

    def gradient(self, adapter: Tensors) -> Tensors:
        """Return the gradient for the factors, of their shapes.

        The squared norm of G = X X^T less its diagonal, or less the identity, has
        the gradient 4 G X; scaled rows pass theirs on by their scale.
        """
        found: dict[str, Tensor] = {}
        for names, rows, scale, gram in self._grams(adapter):
            gradient = gram.bmm(rows).mul_(
                4.0 * self.weight if scale is None else scale * (4.0 * self.weight)
            )
            found.update(
                zip(names, (gradient.mT if ".lora_B." in names[0] else gradient).unbind(), strict=True)
            )
        for a_name, b_name, gap in self._gaps(adapter):
            pull = 4.0 * self.balance * gap
            found[b_name] = found[b_name] + pull * adapter[b_name].detach()
            found[a_name] = found[a_name] - pull[:, None] * adapter[a_name].detach()
        return found

    def _gaps(self, adapter: Tensors) -> Iterator[tuple[str, str, "Tensor"]]:
        """Return of each matrix the names of A and B, and |b|^2 - |a|^2 of its pairs, if that counts."""
        for a_name in adapter if self.balance else ():
            b_name = a_name.replace(".lora_A.", ".lora_B.")
            if b_name != a_name and b_name in adapter:
                a, b = adapter[a_name].detach(), adapter[b_name].detach()
                yield a_name, b_name, b.square().sum(dim=0) - a.square().sum(dim=1)

    def _grams(self, adapter: Tensors) -> Iterator[tuple[list[str], "Tensor", "Tensor | None", "Tensor"]]:
        """Return factors of equal shape together: their names, rows, scale of rows, and G."""
        import torch

        stacks: dict[tuple[bool, tuple[int, ...]], list[str]] = {}
        for name, tensor in adapter.items():
            if ".lora_A." in name or ".lora_B." in name:
                stacks.setdefault((".lora_B." in name, tuple(tensor.shape)), []).append(name)
        for (is_b, _), names in stacks.items():
            with torch.no_grad():
                rows, scale = torch.stack([adapter[name] for name in names]), None
            if is_b:
                rows = rows.mT
            if self.form == "cos":
                scale = torch.linalg.vector_norm(rows, dim=2, keepdim=True).add_(_NORM_OFFSET).reciprocal_()
                rows = rows * scale
            gram = rows.bmm(rows.mT)
            diagonal = gram.diagonal(dim1=1, dim2=2)
            if self.form == "id":
                diagonal -= 1.0
            else:
                diagonal.zero_()
            yield names, rows, scale, gram
