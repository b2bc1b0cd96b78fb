"""What is trained in chosen blocks is shared, the rest everybody's own."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import weighted_sum
from cosim.learning.parameters import Parameter


class ChosenBlocks(Aggregator):
    """All blocks are trained; of the chosen ones, and of what is outside of the blocks, the mean is shared.

    Every client then has a model of its own. What is evaluated is the mean of their losses and hits,
    weighted by data, and what is saved in the end is the mean of their models, which no device holds.

    Attributes
    ----------
    blocks
        Blocks that are shared, counted from 1.

    Source
    ------
    T. Che et al., "Federated learning of large language models with parameter-efficient prompt tuning and
    adaptive optimization" (FedPepTAO), EMNLP 2023, arXiv 2310.15080: sharing as seen in the authors' code.
    Which blocks it finds by a score (``scheme.scored_examples``), and how many by the spectrum of a Hessian
    (``scheme.scored_by``); what is shared is set here.
    """

    kind: Literal["chosen_blocks"] = "chosen_blocks"
    needs_factors: ClassVar[bool] = False
    is_personal: ClassVar[bool] = True
    blocks: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1,), min_length=1)
    examples: ClassVar[tuple[dict[str, Any], ...]] = ({"blocks": (1, 3)}, {"blocks": (2,)})

    @property
    def needs(self) -> Literal["linear", "individual"]:
        """The sum is enough."""
        return "linear"

    def private_of(self, parameters: Collection[Parameter], num_layers: int) -> frozenset[str]:
        """Return the names of what is trained in blocks that are not chosen."""
        if max(self.blocks) > num_layers:
            raise ScenarioError(
                f"scheme.aggregator.blocks: the model has no block {max(self.blocks)}; "
                f"its blocks are 1 to {num_layers}."
            )
        inside = [one for one in parameters if 1 <= one.block <= num_layers]
        private = frozenset(one.name for one in inside if one.block not in self.blocks)
        if len(private) == len(parameters):
            raise ScenarioError(
                "scheme.aggregator.blocks: nothing is trained in the blocks that are shared; share one in "
                "which something is."
            )
        return private

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the mean of what is shared; of the rest the server hears nothing."""
        return Average(server.adapter | weighted_sum(uploads, weights), {})
