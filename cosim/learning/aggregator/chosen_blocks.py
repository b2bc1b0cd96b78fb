"""What is trained in chosen blocks is shared, the rest everybody's own."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cosim.errors import ScenarioError
from cosim.learning.aggregator import Aggregator, Average, Server, Tensors
from cosim.learning.aggregator.sums import weighted_sum
from cosim.learning.shape import ModelShape


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
    Which blocks it finds by a score (``scheme.scored_examples``), and how many by the spectrum of a Hessian,
    which is not here.
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

    def shares_block(self, block: int, num_layers: int) -> bool:
        """Return whether it is chosen, or none of the blocks."""
        return block in self.blocks or not 1 <= block <= num_layers

    def check_blocks(self, shape: ModelShape) -> None:
        """Refuse blocks that the model does not have."""
        if max(self.blocks) > shape.num_layers:
            raise ScenarioError(
                f"scheme.aggregator.blocks: the model has no block {max(self.blocks)}; "
                f"its blocks are 1 to {shape.num_layers}."
            )

    def aggregate(self, uploads: Sequence[Tensors], weights: Sequence[float], server: Server) -> Average:
        """Return the mean of what is shared; of the rest the server hears nothing."""
        return Average(server.adapter | weighted_sum(uploads, weights), {})
