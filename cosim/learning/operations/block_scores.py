"""How much the blocks of a model tell apart the examples of a client."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation

if TYPE_CHECKING:
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter

_SMALLEST = 1e-5  # is added to eigenvalues, as in the source


@operation("block_scores")
def block_scores(learner: "Learner", params: Mapping[str, Any], adapter: "Adapter") -> Fields:
    """Return of each block, counted from 1, the sum of ``log e + 1/e`` over eigenvalues ``e``.

    They are of the matrix of cosines between the examples' outputs of the block, all positions of an example
    as one vector, padding as zero, without prefixes.

    Source
    ------
    T. Che et al., FedPepTAO, arXiv 2310.15080, as seen in the authors' code, which keeps padding.
    """
    import torch

    batch, fields = learner.batch(params), Fields()
    seen = torch.from_numpy(batch.attention_mask)
    with torch.no_grad():
        for block, hidden in enumerate(learner.model.block_outputs(adapter, batch), start=1):
            kept = hidden.double().masked_fill(~seen.to(hidden.device)[..., None], 0.0)
            rows = torch.nn.functional.normalize(kept.flatten(1), dim=1)
            values = torch.linalg.eigvalsh(rows @ rows.T) + _SMALLEST
            fields[f"score_{block}"] = float((values.log() + 1.0 / values).sum())
    return fields
