"""Who trains what, in which order, and what travels: each scheme one readable recipe."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cosim.control.knobs import Knob, Setting
from cosim.control.reports import Report
from cosim.control.stages import Cutoff, Round
from cosim.control.state import Sparsity
from cosim.graph.node import Node
from cosim.kernel.clock import Steps
from cosim.learning.aggregator import Aggregator
from cosim.learning.aggregator.fedavg import FEDAVG
from cosim.learning.codecs import NO_CODECS, Codecs
from cosim.learning.local_rule import LocalRule
from cosim.learning.local_rule.none import NO_RULE
from cosim.learning.privacy import Ledger
from cosim.learning.shape import ModelShape
from cosim.learning.stages import Stage
from cosim.learning.task import Task
from cosim.parts import OfPlane, Part
from cosim.radio.link import Link
from cosim.schemes.turns import Turns
from cosim.world import FEDERATED_SERVER, MAIN_SERVER, Moment, World

MAIN_UPLINK = Link("main_uplink", "up", MAIN_SERVER)
MAIN_DOWNLINK = Link("main_downlink", "down", MAIN_SERVER)
FEDERATED_UPLINK = Link("federated_uplink", "up", FEDERATED_SERVER)
FEDERATED_DOWNLINK = Link("federated_downlink", "down", FEDERATED_SERVER)


class Scheme(Part):
    """A recipe of a training.

    Attributes
    ----------
    num_rounds, local_steps
        Rounds, and mini-batches of each client in a round.
    evaluate_every
        Rounds between two evaluations on the held-out examples; there is one
        before training and one after the last round in any case. Evaluations
        take no simulated time.
    """

    links: ClassVar[tuple[Link, ...]] = ()
    """The links it sends over, each with a table of its name in ``[radio]``."""

    reportable: ClassVar[frozenset[str]] = frozenset()
    """What its clients can report to an allocator."""

    is_synchronous: ClassVar[bool] = True
    """Whether a round begins when the one before has ended; if all take part, times decide no value."""

    skips_absent: ClassVar[bool] = False
    """Whether a round can begin without clients that are away."""

    turn_of: ClassVar[Literal["client", "all"] | None] = None
    """Whose a turn is where several tasks take turns on one population; None where it takes none."""

    num_rounds: int = Field(default=10, gt=0)
    local_steps: int = Field(default=10, gt=0)
    evaluate_every: Annotated[int, OfPlane("time")] = Field(default=1, gt=0)

    def num_client_steps(self, num_clients: int) -> int:
        """Return the local steps of a client in the whole run, for the schedule of the learning rate."""
        return self.num_rounds * self.local_steps

    @property
    def is_closed_form(self) -> bool:
        """Whether rounds last as their stages say while the air holds still."""
        return False

    @property
    def is_staged(self) -> bool:
        """Whether its stages describe a round completely for any participants, and rounds never overlap."""
        return self.is_closed_form

    def taking_part(self, seed: int, num_clients: int, round_: int) -> list[int]:
        """Return the clients of a round, ascending."""
        return list(range(num_clients))

    @property
    def why_times_decide(self) -> str | None:
        """Why times decide which spans there are or what they wait for, the setting first; None if not.

        Without times each span is asked for when those it names as its causes have ended, whatever the
        channel, so an order that was seen once holds for all.
        """
        return f"scheme.kind: in {self.kind!r} it depends on times who does what next"

    @property
    def cutoff(self) -> Cutoff | None:
        """The deadline of its rounds, where it has one."""
        return None

    @property
    def patient(self) -> "Scheme":
        """The same without a deadline."""
        return self

    def knobs(self, task: Task) -> tuple[Knob, ...]:
        """Return what a decision may set beside grants, cut layer and rank."""
        return ()

    def phases(self, task: Task, round_: int, setting: Setting, reports: Sequence[Report] = ()) -> Round:
        """Return the stages of a round under a setting; nothing where no order of stages can say them.

        Amounts are those of the round where clients and rounds are alike, else the most of any.
        """
        return ()

    def transfers(self, task: Task) -> Mapping[str, int]:
        """Return the bits over each link of one client's round, where ``phases`` says nothing."""
        return {}

    def check(self, task: Task) -> None:
        """Refuse a task that cannot be trained so.

        Raises
        ------
        ScenarioError
            Naming the setting and the way out.
        """

    @property
    def why_no_sums(self) -> str | None:
        """Why its settings let no medium add what clients send, with a way out; None where one may."""
        return None

    @property
    def averaging(self) -> Aggregator:
        """How adapters of clients are averaged, where they are."""
        return FEDAVG

    @property
    def earlier_stages(self) -> tuple[Stage, ...]:
        """What is trained before the scenario's own trainable is."""
        return ()

    @property
    def num_scored(self) -> int:
        """Examples by which each client scores all blocks before the first round."""
        return 0

    @property
    def needs_each(self) -> bool:
        """Whether the server must see the update of each client."""
        return self.averaging.needs == "individual"

    @property
    def rule(self) -> LocalRule:
        """What corrects the gradients of local steps."""
        return NO_RULE

    @property
    def codecs(self) -> Codecs:
        """What each kind of payload goes through."""
        return NO_CODECS

    def cut_layers(self, shape: ModelShape) -> tuple[int, ...]:
        """Return how many blocks can be kept on a client, ascending."""
        return tuple(range(1, shape.num_layers))

    def sparsity(self, task: Task, lora_rank: int, round_: int = 1) -> Sparsity | None:
        """Return what may be left out of the adapters sent after a round; None where no allocator can say."""
        return None

    def why_no_sparsity(self, task: Task, lora_rank: int) -> str | None:
        """Return why no allocator can say how much is left out, with a way out; None where one can."""
        return (
            f"nobody can tell clients of the scheme {self.kind!r}; take the scheme 'federated', or an "
            "allocator that leaves it to the codec, such as 'equal'"
        )

    def ledger(self, task: Task) -> Ledger | None:
        """Return who keeps account of what clients give away; None where nobody does.

        Raises
        ------
        ScenarioError
            If no account can be kept, or a budget does not last for a round.
        """
        return None

    def multicasts(self, link: str) -> bool:
        """Return whether what a link carries is sent to all clients in one transmission."""
        return False

    @property
    def is_cut(self) -> bool:
        """Whether clients hold a part of the model, and send activations of it."""
        return any(link.name == "main_uplink" for link in self.links)

    @property
    def may_cut_apart(self) -> bool:
        """Whether each client may keep a number of blocks of its own."""
        return False

    def memory_bytes_apart(
        self, task: Task, client_cut_layers: Sequence[int], lora_rank: int
    ) -> dict[str, int]:
        """Return what each device must hold, bytes, by its name, where clients are cut apart."""
        raise NotImplementedError(f"{type(self).__name__} cuts all clients at the same block")

    @abstractmethod
    def memory_bytes(self, task: Task, cut_layer: int, lora_rank: int) -> dict[str, int]:
        """Return what a client and the main server must hold, by ``client`` and ``main-server``, bytes."""

    def turns(self, world: World) -> Turns:
        """Return the training as turns, of whom :attr:`turn_of` says."""
        raise NotImplementedError(f"{type(self).__name__} takes no turns with others")

    @abstractmethod
    def run(self, world: World) -> Steps:
        """Play the training from beginning to end; leaves the adapter in ``world.adapter``."""

    def is_evaluated(self, round_: int) -> bool:
        """Return whether a round ends with an evaluation."""
        return round_ % self.evaluate_every == 0 or round_ in (0, self.num_rounds)


def measure_evaluation(world: World, moment: Moment, evaluate: Callable[..., Node]) -> None:
    """Record held-out loss, and perplexity of a causal model or accuracy of a classifier.

    Parameters
    ----------
    evaluate
        Returns the evaluation on all held-out examples; with ``client=``, which is asked where
        clients are evaluated by themselves, that of a client on its own.
    """
    evaluation = evaluate()
    world.measure(moment, MAIN_SERVER, "eval_loss", evaluation.ref("loss"))
    figure = "perplexity" if world.task.shape.task == "causal_lm" else "accuracy"
    world.measure(moment, MAIN_SERVER, f"eval_{figure}", evaluation.ref(figure))
    for client in world.task.evaluated_clients:
        loss = evaluate(client=client).ref("loss")
        world.measure(moment, world.client_names[client], "client_eval_loss", loss)
