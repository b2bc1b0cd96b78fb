"""Asynchronous federated LoRA: every upload is merged when it arrives, and nobody waits for anybody."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from cosim.graph.node import Ref
from cosim.schemes.asynchronous_updates import Upload
from cosim.schemes.without_barriers import WithoutBarriers


class Asynchronous(WithoutBarriers):
    """The server merges each upload by itself, in order of arrival.

    With the weight ``a`` of an upload the global adapter becomes ``(1 - a) * global + a * upload``,
    factor by factor. With one client and ``mixing = 1`` this is, bit for bit, what ``centralized``
    learns.

    Source
    ------
    C. Xie, S. Koyejo, I. Gupta, "Asynchronous federated optimization", arXiv 1903.03934
    (FedAsync), from the abstract and our knowledge of the method; the paper itself was not at hand. Its
    proximal term is ``local_rule = { kind = "proximal" }``. We leave out its limit on the staleness, and
    train without pauses where its server triggers clients at random times. Optimiser moments stay with
    the client.
    """

    kind: Literal["asynchronous"] = "asynchronous"
    examples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"staleness": "hinge", "hinge_after": 1, "adapter_codec": {"kind": "top_k"}},
    )

    @property
    def uploads_of_a_merge(self) -> int:
        """One."""
        return 1

    def terms(self, adapter: Ref, uploads: Sequence[Upload]) -> Mapping[Ref, float]:
        """Return the global adapter and the upload."""
        (one,) = uploads
        return {adapter: 1.0 - one.weight, one.received: one.weight}
