"""How much of the loss's curvature is in the blocks of a model, by the spectrum of its Hessian."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cosim.graph.operation import Fields, operation
from cosim.rng import stream

if TYPE_CHECKING:
    from torch import Tensor

    from cosim.learning.hessian_spectrum import Spectrum
    from cosim.learning.learner import Learner
    from cosim.learning.model import Adapter


@operation("hessian_scores")
def hessian_scores(
    learner: "Learner", params: Mapping[str, Any], adapter: "Adapter", residual: "Adapter | None" = None
) -> Fields:
    """Return by the Hessian of the mean loss of a mini-batch which blocks to share, and how many.

    ``shared_ratio`` is the share of the eigenvalues, over what is trained of all blocks, that is above a
    threshold which is raised until it changes little. The score of a block is the share of
    the eigenvalues of its own part of the Hessian above the same threshold; 0 where nothing of it is trained.

    Source
    ------
    T. Che et al., FedPepTAO, arXiv 2310.15080, as seen in the authors' code: the ratio. It takes
    the scores from elsewhere (``block_scores``); those of one threshold for each block are ours.
    """
    import torch

    from cosim.learning.families.kernels import attend_stepwise
    from cosim.learning.hessian_spectrum import spectrum
    from cosim.learning.learner import leaves_of, mean_loss

    model, leaves = learner.model, leaves_of(adapter)
    before = model.attend_by(attend_stepwise)  # the fused kernel has no second derivative
    try:
        loss = mean_loss(model.whole_outputs(leaves, learner.batch(params), residual=residual))
    finally:
        model.attend_by(before)
    up_to = [model.client_names(block) for block in range(model.shape.num_layers + 1)]
    blocks = [[leaves[name] for name in own[len(before) :]] for before, own in pairwise(up_to)]
    trained = [leaf for own in blocks for leaf in own]
    slopes = torch.autograd.grad(loss, trained, create_graph=True) if trained else ()
    slope_of = {id(leaf): slope for leaf, slope in zip(trained, slopes, strict=True)}

    def of(chosen: "Sequence[Tensor]", block: int) -> "Spectrum":
        sizes = [one.numel() for one in chosen]

        def product(vector: "Tensor") -> "Tensor":
            along = [part.view_as(one) for part, one in zip(torch.split(vector, sizes), chosen, strict=True)]
            slopes = [slope_of[id(one)] for one in chosen]
            found = torch.autograd.grad(slopes, chosen, along, retain_graph=True, materialize_grads=True)
            return torch.cat([one.flatten() for one in found])

        generator = torch.Generator().manual_seed(stream(params["probe"], "block", block).torch_seed())
        signs = 2.0 * torch.randint(2, (sum(sizes),), generator=generator) - 1.0
        return spectrum(product, signs.to(chosen[0]) if chosen else signs)

    whole = of(trained, 0)
    threshold = whole.threshold()
    fields = Fields({"shared_ratio": whole.share_above(threshold)})
    for block, own in enumerate(blocks, start=1):
        fields[f"score_{block}"] = of(own, block).share_above(threshold)
    return fields
