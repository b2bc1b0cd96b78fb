"""What a scenario would run, in a few lines."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from math import isinf

from cosim.control import stages
from cosim.cores import processes
from cosim.graph.code_identity import without_code
from cosim.graph.executor import TimingOnly
from cosim.learning.aggregator import Aggregator
from cosim.learning.chain import Chain
from cosim.learning.payload import payloads
from cosim.learning.update import release_of
from cosim.parts import Part
from cosim.radio.channel_settings import LINKS
from cosim.report.quantities import amount, count, duration
from cosim.scenario.build import prepare_tasks
from cosim.scenario.prepared import Prepared, notes_of, recipes, worlds
from cosim.scenario.settings import Scenario
from cosim.units import NS_PER_S

_MOST_CLIENTS_PLAYED, _MOST_DRAWS_PLAYED, _MOST_DECISIONS_PLAYED = 1_000, 2e7, 1_000
"""Beyond these, playing a local step takes longer than a check may."""


def overview(scenario: Scenario, switched: Sequence[str] = ()) -> Iterator[str]:
    """Return what would run, line by line, warnings last; ``switched`` is what other kinds kept and lost.

    Raises
    ------
    CosimError
        If it cannot run.
    """
    prepared = prepare_tasks(scenario)
    yield f"{scenario.name}: fine, seed {scenario.seed}"
    for one in prepared:
        if one.task.name:
            yield f"  task       {one.task.name}"
        yield from _learned(one)
        if one.scenario.training.executor == "auto":
            yield f"  executor   {one.task.training.executor}, by the size of a mini-batch"
        if told := workers(one.scenario):
            yield f"  workers    {told}"
    yield f"  clients    {scenario.num_clients}, {_range(prepared[0])}"
    yield from _air(scenario)
    for one in prepared:
        yield from _played(one)
    policy = scenario.task_policy
    if policy is not None:
        until = "all rounds are over" if policy.until_s is None else f"{policy.until_s:g} s have passed"
        yield f"  policy     {policy.kind}, until {until}"
    rehearse(prepared)
    for line in switched:
        yield f"  changed    {line}"
    for line in notes_of(prepared):
        yield f"  note       {line}"
    for line in warnings(scenario):
        yield f"  warning    {line}"


def _learned(prepared: Prepared) -> Iterator[str]:
    """Tell model and data of a task."""
    scenario, task = prepared.scenario, prepared.task
    shape = task.shape
    shares = [len(share) for share in task.shares]
    yield (
        f"  model      {scenario.model.base.describe()}: {shape.num_layers} blocks of width "
        f"{shape.hidden_size}, {amount(shape.num_weights, 'weights')}; {_cut(scenario)}, "
        f"{_trained(scenario)}"
    )
    yield (
        f"  data       {count(sum(shares))} training examples, {min(shares)} to {max(shares)} a client "
        f"({scenario.data.partition.kind}), {count(len(task.tokens.corpus.test))} held out"
    )


def workers(scenario: Scenario) -> str | None:
    """Return in how many processes a task's values are computed; None where it says nothing of it."""
    asked, device = scenario.training.workers, scenario.model.device
    if asked is None:
        return None
    unless = "" if device == "cpu" else ", unless torch computes on a GPU"
    return (
        f"{min(processes(asked), scenario.num_clients)} process(es) of one thread compute the clients{unless}"
    )


def _played(prepared: Prepared) -> Iterator[str]:
    """Tell who trains what when, and what is decided of it, for a task."""
    scenario, scheme = prepared.scenario, prepared.scenario.scheme
    of_task = f"{prepared.task.name}, " if prepared.task.name else ""
    steps = f"{count(scheme.num_rounds)} rounds of {count(scheme.local_steps)} local step(s)"
    allocator = f"{_spans(prepared)}allocator {scenario.allocator.kind}"
    yield f"  scheme     {of_task}{scheme.kind}: {steps}, {allocator}"
    for stage in scheme.earlier_stages:
        yield f"  stage      {count(stage.num_rounds)} round(s) of {stage.trainable.kind!r} first"
    if any(link.name == "federated_uplink" for link in scheme.links):
        yield f"  averaging  {_averaging(scheme.averaging)}"
    yield from _codecs(prepared)
    yield from _limit(prepared)
    yield from _decision(prepared)


def rehearse(prepared: Sequence[Prepared]) -> None:
    """Play one local step of everybody without values, where that takes less than seconds.

    Raises
    ------
    ScenarioError
        If it cannot end, as a channel is too weak to carry anything or a device too slow.
    """
    num_clients, draws, decisions, schemes = len(prepared[0].clients), 0.0, 0.0, []
    for one in prepared:
        scheme = one.scenario.scheme
        num_rounds = 1 if scheme.is_synchronous else min(num_clients, scheme.num_rounds)
        schemes.append(scheme.model_copy(update={"num_rounds": num_rounds, "local_steps": 1}))
        if one.fading is not None:
            draws += one.fading.draws * num_rounds / scheme.num_rounds
            decisions += one.fading.decisions * num_rounds / scheme.num_rounds
    is_long = draws > _MOST_DRAWS_PLAYED or decisions > _MOST_DECISIONS_PLAYED
    if num_clients > _MOST_CLIENTS_PLAYED or is_long:
        return
    with without_code():
        playing = worlds(prepared, lambda _: lambda _rank: TimingOnly())
        playing[0].site.play(recipes(prepared, playing, schemes))


def _spans(prepared: Prepared) -> str:
    """Tell how many spans a run has, where that is known."""
    found = num_spans(prepared)
    return "" if found is None else f"{count(found)} spans; "


def _cut(scenario: Scenario) -> str:
    """Tell where the model is cut, if it is."""
    if not scenario.scheme.is_cut:
        return "not cut"
    return f"cut after block {_listed(scenario.client_cut_layers or (scenario.model.cut_layer,))}"


def _trained(scenario: Scenario) -> str:
    """Tell what is trained."""
    trained = scenario.trained
    return f"LoRA rank {trained.lora_rank}" if trained.has_factors else f"trained: {trained.kind}"


def _codecs(prepared: Prepared) -> Iterator[str]:
    """Tell what payloads travel as, where they do not as they are."""
    for name, (codec, layout) in payloads(prepared.task, prepared.num_blocks).items():
        if not codec.is_transparent:
            exact = "" if codec.bits(layout) is not None else "at most "
            bits, dense = (amount(one, "bit") for one in (codec.max_bits(layout), layout.dense_bits))
            sent = f"{exact}{bits} instead of {dense}"
            if prepared.scenario.allocator.sets_sparsification_ratios and name == "adapter_codec":
                sent = f"as much of {dense} as the allocator says, round by round"
            yield f"  codec      {name} {codec.title}: {sent}"
        release = release_of(codec.steps) if isinstance(codec, Chain) else None
        if release is not None:
            norm = (
                "no bounded norm" if isinf(release.sensitivity) else f"2-norm {release.sensitivity:g} at most"
            )
            yield f"  released   updates of {norm}, with noise of {release.noise_std:g} on each number"


def _averaging(aggregator: Aggregator) -> str:
    """Tell how adapters are averaged, and what the federated server must see for it."""
    sees = {
        "linear": "needs no more than the sum of the uploads",
        "individual": "needs each upload by itself",
    }
    ranks = (
        "" if aggregator.client_ranks is None else f", ranks {', '.join(map(str, aggregator.client_ranks))}"
    )
    return f"{aggregator.kind}: {sees[aggregator.needs]}{ranks}"


def _limit(prepared: Prepared) -> Iterator[str]:
    """Tell the limit on latency, where there is one, and what rounds would take without."""
    latency = prepared.scenario.allocator.latency(prepared.decisions().state(0, round_=1))
    if latency is None:
        return
    limit_s, empty_s, dense_s = latency
    yield (
        f"  limit      {duration(limit_s * NS_PER_S)} a round; before fading, one takes "
        f"{duration(dense_s * NS_PER_S)} if all is sent and {duration(empty_s * NS_PER_S)} if nothing is"
    )


def _decision(prepared: Prepared) -> Iterator[str]:
    """Tell what the allocator chooses first, and how long a round lasts with that."""
    decisions = prepared.decisions()
    allocation = decisions.decide(0, round_=1)
    decisions.apply(allocation, time_ns=0, round_=1)
    predicted_s = decisions.predicted_round_s()
    if predicted_s is None:
        return
    cut = f"cut after block {allocation.cut_layer}"
    if allocation.client_cut_layers is not None:
        cut = f"cut after block {_listed(allocation.client_cut_layers)}"
    of_rank = f"LoRA rank {allocation.lora_rank}" if prepared.scenario.trained.has_factors else ""
    chosen = ", ".join(one for one in (cut if prepared.scenario.scheme.is_cut else "", of_rank) if one)
    lasts = f"{duration(predicted_s * NS_PER_S)} a round while the air holds still"
    told = f"  decision   {chosen}: {lasts}" if chosen else f"  decision   {lasts}"
    plan = allocation.plan
    if plan is not None and plan.rounds_to_target != 1.0:
        total = duration(plan.total_s * NS_PER_S)
        told += f", {plan.rounds_to_target:.3g} rounds to target, {total} in all"
    yield told
    yield from _beyond_data(prepared.scenario, predicted_s)


def _beyond_data(scenario: Scenario, round_s: float) -> Iterator[str]:
    """Tell where rounds would begin after a drifting window has reached the end of the data."""
    drift, last_s = scenario.data.drift, (scenario.scheme.num_rounds - 1) * round_s
    if drift is not None and last_s > drift.duration_s and scenario.task_policy is None:
        yield (
            f"  warning    data.drift.duration_s: the window has reached the last examples at "
            f"{drift.duration_s:g} s, and the last of such rounds would begin at {last_s:.3g} s; the run "
            "stops at the first that begins later, so take a longer duration_s, or fewer rounds."
        )


def _listed(cuts: Sequence[int]) -> str:
    """Return the cuts of all clients in short."""
    return str(cuts[0]) if len(set(cuts)) == 1 else f"{', '.join(map(str, cuts))} client by client"


def warnings(scenario: Scenario) -> list[str]:
    """Return the warnings for the user before a run."""
    told = dict.fromkeys(one.model.base.warning for one in scenario.by_task.values())
    return [f"{line}." for line in told if line is not None]


def num_spans(prepared: Prepared) -> int | None:
    """Return how many spans a run has, by the stages of its rounds; None where the scheme says none.

    Exact for schemes whose rounds, or those of a stage, are alike.
    """
    policy = prepared.scenario.task_policy
    if policy is not None and policy.until_s is not None:
        return None
    radio = prepared.scenario.radio
    if any(map(radio.transport_of, LINKS)):  # what has a latency has spans of its own
        return None
    if prepared.scenario.availability is not None:  # who is away may have none
        return None
    scheme, decision = prepared.scenario.scheme, prepared.decisions().decide(0, round_=1)
    reports, task = prepared.scenario.allocator.reports, prepared.task
    if not scheme.phases(task, 1, decision.setting, reports):
        return None
    begins = [
        *accumulate((one.num_rounds for one in scheme.earlier_stages), initial=1),
        scheme.num_rounds + 1,
    ]

    def spans(round_: int) -> int:
        return stages.num_spans(scheme.phases(task, round_, decision.setting, reports))

    return sum(spans(begin) + (end - begin - 1) * spans(begin + 1) for begin, end in pairwise(begins))


def _range(prepared: Prepared) -> str:
    speeds = [device.flop_per_s for device in prepared.clients]
    slowest, fastest = amount(min(speeds), "FLOP/s"), amount(max(speeds), "FLOP/s")
    speed = slowest if slowest == fastest else f"{slowest} to {fastest}"
    nearest, farthest = prepared.channel.distances_m.min(), prepared.channel.distances_m.max()
    return f"{speed}, {nearest:.0f} to {farthest:.0f} m from the base station"


def _air(scenario: Scenario) -> Iterator[str]:
    """Tell the spectrum of each link in use and which are free, then what the channel is made of."""
    used = {link.name: link for one in scenario.by_task.values() for link in one.scheme.links}
    for name in (link for link in LINKS if link in used):
        link = scenario.radio.link(name)
        if not link.is_modelled:
            yield f"  {'air':<10} {name}: free, what it carries arrives at once"
        else:
            rung, trace = scenario.radio.medium.rung(used[name], scenario.radio.rate), scenario.radio.trace
            if trace is not None and trace.gives == "rates":
                rung = f"replayed from {trace.file.name}"
            yield (
                f"  {'air':<10} {name}: {link.num_subchannels} subchannel(s), "
                f"{amount(sum(link.widths_hz), 'Hz')} in all; rate: {rung}"
            )
    radio, trace = scenario.radio, scenario.radio.trace
    parts = (("path loss", radio.path_loss), ("shadowing", radio.shadowing), ("fading", radio.fading))
    told = [f"{what} {_part(part)}" for what, part in parts]
    if trace is not None and trace.gives != "rates":
        told = [
            *(told[:2] if trace.gives == "fading" else []),
            f"{trace.gives} replayed from {trace.file.name}",
        ]
    yield f"  {'channel':<10} {', '.join(told)}, medium {radio.medium.kind}"


def _part(part: Part) -> str:
    """Tell a part with its settings, those that are numbers or words."""
    told = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in part
        if name != "kind" and isinstance(value, str | int | float) and not isinstance(value, bool)
    ]
    return f"{part.kind} ({', '.join(told)})" if told else part.kind
