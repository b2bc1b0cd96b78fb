"""What the air is charged with and what receivers compute with, work by work of real trainings."""

import pytest

from cosim.control.reports import REPORT_BITS
from cosim.learning.codec import Codec
from cosim.learning.execution import make_executor
from cosim.parts import family
from cosim.scenario.build import prepare

FOR_ADAPTERS = sorted(set(family(Codec)) - {"none"})
FOR_ALL = sorted(set(FOR_ADAPTERS) - {"soft", "svd", "random_ranks"})
TSFA = {"kind": "tsfa", "latency_limit_s": 6e-4}


class Watching:
    """An executor that also reads the bits of every sending, and notes who reads what."""

    def __init__(self, executor):
        self._executor = executor
        self.bits, self.readers = {}, {}

    def __getattr__(self, name):
        return getattr(self._executor, name)

    def materialise(self, keep, read):
        nodes, left = {}, [ref.node for ref in (*keep, *read)]
        while left:
            node = left.pop()
            if node.key not in nodes:
                nodes[node.key] = node
                left += [one.node for one in node.inputs]
        for node in nodes.values():
            for one in node.inputs:
                made = one.node.operation.name, one.field
                self.readers.setdefault(made, set()).add(node.operation.name)
        sendings = [one for one in nodes.values() if one.operation.name == "transmit"]
        values = self._executor.materialise(keep, [*read, *(one.ref("bits") for one in sendings)])
        bits = [int(one) for one in values[len(read) :]]
        self.bits |= dict(zip((one.key for one in sendings), bits, strict=True))
        return values[: len(read)]


@pytest.fixture
def watched(tiny_scenario):
    """Return what trains the tiny scenario with changes, and hands back its spans and who watched."""

    def train(changes):
        scenario, watching = tiny_scenario(changes), []
        prepared = prepare(scenario)

        def executor(rank):
            watching.append(Watching(make_executor(prepared.task, rank)))
            return watching[0]

        world = prepared.world(executor)
        world.clock.run(world.clock.process(scenario.scheme.run(world), "the scheme"))
        spans = world.log.spans
        spans.settle()
        return list(zip(spans.name, spans.bits, spans.node, strict=True)), watching[0]

    return train


def charged(spans, name):
    return [(bits, work) for what, bits, work in spans if what == name]


@pytest.mark.parametrize("scheme", ["federated", "split_federated"])
@pytest.mark.parametrize("kind", FOR_ADAPTERS)
def test_adapters_are_charged_and_averaged_as_they_were_encoded(kind, scheme, watched):
    """Pairs of two sizes, so that bits depend on values where they can."""
    told = {"kind": scheme, "num_rounds": 2, "local_steps": 2, "adapter_codec": {"kind": kind}}
    told["aggregator"] = {"kind": "product_svd" if kind == "svd" else "fedavg"}
    spans, watching = watched({"scheme": told, "lora.target_modules": ["all-linear"]})
    uploads = charged(spans, "adapter_upload")
    assert len(uploads) == 2 * 3
    assert all(bits == watching.bits[work] for bits, work in uploads)
    averages = {"aggregate", "mean"} & watching.readers["transmit", "tensors"]
    assert averages
    trained = "client_backward" if scheme == "split_federated" else "update"
    assert not averages & watching.readers[trained, "adapter"]


@pytest.mark.parametrize("kind", ["soft", "random_ranks", "top_k"])
def test_under_an_allocator_the_report_goes_ahead_and_nothing_else(kind, watched):
    codec = {"kind": kind, **({"ratio_of": "bits"} if kind == "top_k" else {})}
    changes = {"scheme": {"kind": "federated", "num_rounds": 3, "local_steps": 2, "adapter_codec": codec}}
    spans, watching = watched({**changes, "lora.target_modules": ["all-linear"], "allocator": TSFA})
    uploads = charged(spans, "adapter_upload")
    assert all(bits == watching.bits[work] for bits, work in uploads)
    assert [bits for bits, _ in charged(spans, "report")] == [REPORT_BITS] * len(uploads)
    assert len({bits for bits, _ in uploads}) > 1


@pytest.mark.parametrize("kind", FOR_ALL)
def test_the_server_computes_with_the_activations_it_decodes_and_the_client_with_their_gradient(
    kind, watched
):
    changes = {f"scheme.{payload}_codec": {"kind": kind} for payload in ("activation", "gradient")}
    spans, watching = watched(changes)
    for name in ("activation_upload", "gradient_download"):
        assert all(bits == watching.bits[work] for bits, work in charged(spans, name))
    readers = watching.readers
    assert readers["client_forward", "activations"] == {
        "transmit",
        "client_backward",
    }  # its own end keeps them
    assert readers["server_step", "gradient"] == {"transmit"}
    assert {"server_step", "client_backward"} <= readers["transmit", "tensors"]
