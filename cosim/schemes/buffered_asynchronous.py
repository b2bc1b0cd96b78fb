"""Buffered asynchronous federated LoRA (FedBuff): the server merges after some uploads."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from cosim.graph.node import Ref
from cosim.schemes.asynchronous_updates import Upload
from cosim.schemes.without_barriers import WithoutBarriers


class BufferedAsynchronous(WithoutBarriers):
    """The server collects uploads in a buffer, and takes a step along their mean when it is full.

    With ``K`` uploads in the buffer, each ``u`` of weight ``a``, that began from the global adapter
    ``s``, the next one is ``global + 1 / K * sum(a * (u - s))``. What is in the buffer when the run
    ends is merged too, as a mean over as many. A client goes on with the global adapter as it is, also
    where its upload waits in the buffer; it may have several there.

    Attributes
    ----------
    mixing
        Weight of an upload that is not stale: the learning rate of the server.
    buffer_size
        Uploads of a merge.

    Source
    ------
    J. Nguyen et al., "Federated learning with buffered asynchronous aggregation" (FedBuff), AISTATS
    2022, arXiv 2106.06639, algorithm 1, from our knowledge of the method, as the paper was not at hand.
    Its staleness weight is ``polynomial`` with an exponent of 1/2. Optimiser moments stay with
    the client; there are no secure sums.
    """

    kind: Literal["buffered_asynchronous"] = "buffered_asynchronous"
    mixing: float = Field(default=1.0, gt=0.0, le=10.0)
    buffer_size: int = Field(default=4, gt=0)
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"buffer_size": 2, "staleness": "hinge", "hinge_after": 0},
    )

    @property
    def uploads_of_a_merge(self) -> int:
        """As many as the buffer holds."""
        return self.buffer_size

    def terms(self, adapter: Ref, uploads: Sequence[Upload]) -> Mapping[Ref, float]:
        """Return the global adapter, and each upload less what it began from."""
        found = {adapter: 1.0}
        for one in uploads:
            share = one.weight / len(uploads)
            found[one.received] = found.get(one.received, 0.0) + share
            found[one.start] = found.get(one.start, 0.0) - share
        return found
