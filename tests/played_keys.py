"""The keys of all that a scenario computes, without computing it, and what moves between two of them."""

from collections import defaultdict

from cosim.graph.executor import TimingOnly
from cosim.graph.operation import registered
from cosim.scenario.build import prepare


class Listing(TimingOnly):
    """Computes nothing, but asks for all that a full run asks for, and notes the works below it."""

    computes = True

    def __init__(self):
        self.keys = defaultdict(set)

    def materialise(self, keep, read):
        open_ = [ref.node for ref in (*keep, *read)]
        while open_:
            node = open_.pop()
            name = "aggregate" if node.operation.name == "mean" else node.operation.name
            if node.key not in self.keys[name]:
                self.keys[name].add(node.key)
                open_.extend(one.node for one in node.inputs)
        super().materialise(keep, read)
        return [0.0 for _ in read]


def play(scenario):
    """Return a world that was played to the end, and the keys of its works by operation."""
    listing = Listing()
    world = prepare(scenario).world(lambda rank: listing)
    world.clock.run(world.clock.process(scenario.scheme.run(world), "the scheme"))
    listing.materialise((), [world.adapter])
    return world, {
        operation: listing.keys[operation] for operation in registered() if listing.keys[operation]
    }


def moved(before, after):
    """Return the operations of whose works neither run has all of the other's."""
    return {
        operation
        for operation in before.keys() | after.keys()
        if not _one_holds_the_other(before.get(operation), after.get(operation))
    }


def _one_holds_the_other(mine, theirs):
    return mine is not None and theirs is not None and (mine <= theirs or theirs <= mine)


def as_decided(metrics, client_names):
    """Return the settings that make every allocator's decisions on cut layers and rank, from the metrics."""
    rows = zip(metrics.name, metrics.actor, metrics.value, strict=True)
    decided = {(name, actor): int(value) for name, actor, value in rows if name in ("cut_layer", "lora_rank")}
    same = {"lora.rank": decided["lora_rank", "main-server"]}
    cuts = {actor: cut for (name, actor), cut in decided.items() if name == "cut_layer"}
    if len(cuts) == 1:
        same["model.cut_layer"] = cuts["main-server"]
    else:
        same["clients"] = [{"count": 1, "cut_layer": cuts[name]} for name in client_names]
    return same
