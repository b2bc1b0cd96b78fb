"""Rounds of the schemes as data, from what each client computes and sends."""

from collections.abc import Sequence
from functools import cache

from cosim.control.reports import ASSIGNMENT, REPORT, Report
from cosim.control.stages import (
    CLIENT,
    FEDERATED_SERVER,
    MAIN_SERVER,
    Barrier,
    Chain,
    Compute,
    Repeat,
    Round,
    Stage,
    Transfer,
)
from cosim.learning.amounts import SplitAmounts, WholeAmounts


def upload(name: str, link: str, bits: int, *, is_bound: bool = False) -> Transfer:
    """Return a transfer of a client to a server."""
    return Transfer(name, link, bits, (CLIENT,), (_server(link),), is_bound)


def download(name: str, link: str, bits: int, *, is_bound: bool = False) -> Transfer:
    """Return a transfer of a server to a client."""
    return Transfer(name, link, bits, (_server(link),), (CLIENT,), is_bound)


def split_round(
    each: Sequence[SplitAmounts | None],
    local_steps: int,
    *,
    is_joint: bool = True,
    is_bound: bool = False,
    aggregate_flop: int = 0,
) -> Round:
    """Return the three barriers of FedsLLM and its averaging.

    Parameters
    ----------
    each
        Of each client what it computes and sends; None for one that does not take part.
    local_steps
        Mini-batches of each client.
    is_joint
        Whether the main server works on all mini-batches as one job; else it serves
        each as it arrives, through its queue.
    is_bound
        Whether bits are the most there can be.
    aggregate_flop
        What the federated server is charged to average what it has decoded.
    """

    @cache
    def forward(one: SplitAmounts | None) -> Chain:
        if one is None:
            return ()
        return (
            Compute("client_forward", CLIENT, one.client_forward_flop),
            *_if_any(upload("activation_upload", "main_uplink", one.activation_bits, is_bound=is_bound)),
        )

    @cache
    def backward(one: SplitAmounts | None) -> Chain:
        if one is None or not one.gradient_bits:
            return ()
        return (
            download("gradient_download", "main_downlink", one.gradient_bits, is_bound=is_bound),
            Compute("client_backward", CLIENT, one.client_backward_flop),
        )

    def server(flop: int) -> Chain:
        return (Compute("server_forward_backward", MAIN_SERVER, flop),) if flop else ()

    if is_joint:
        flop = sum(one.server_flop for one in each if one is not None)
        step: tuple[Barrier, ...] = (Barrier(tuple(map(forward, each)), server(flop)),)
        back = Barrier(tuple(map(backward, each)))
        step += (back,) if any(back.chains) else ()
    else:
        step = (
            Barrier(
                tuple(
                    (*forward(one), *server(0 if one is None else one.server_flop), *backward(one))
                    for one in each
                )
            ),
        )
    return (Repeat(step, local_steps), *averaged(each, is_bound=is_bound, aggregate_flop=aggregate_flop))


def whole_round(
    each: Sequence[WholeAmounts | None],
    local_steps: Sequence[int],
    reports: Sequence[Report] = (),
    *,
    is_bound: bool = False,
    aggregate_flop: int = 0,
    assignment_bits: Sequence[int] = (),
) -> Round:
    """Return the round of who trains the uncut model: local steps, reports, and the averaging.

    Parameters
    ----------
    each, local_steps
        Of each client what it computes and sends, None for one that does not take part; and
        how many mini-batches it takes.
    reports
        What it sends once it has trained; all wait for those that are awaited.
    is_bound
        Whether bits are the most there can be.
    aggregate_flop
        What the federated server is charged to average what it has decoded.
    assignment_bits
        What each client is sent about the decision before it begins; nothing without.
    """
    report_bits = sum(report.bits for report in reports)

    @cache
    def training(one: WholeAmounts | None, steps: int, assigned: int) -> Chain:
        if one is None:
            return ()
        trained = Compute("client_forward_backward", CLIENT, one.flop, steps)
        begun = _if_any(download(ASSIGNMENT, _DOWN, assigned))
        return (*begun, trained, *_if_any(upload(REPORT, _UP, report_bits)))

    trained = tuple(map(training, each, local_steps, assignment_bits or [0] * len(each)))
    averaging = averaged(each, is_bound=is_bound, aggregate_flop=aggregate_flop)
    up, *down = averaging or (Barrier(((),) * len(each)),)
    assert isinstance(up, Barrier)
    if any(report.is_awaited for report in reports):
        return Barrier(trained), up, *down
    joined = {
        pair: (*pair[0], *pair[1]) for pair in {*zip(trained, up.chains, strict=True)}
    }  # clients that are alike share a chain
    chains = tuple(joined[pair] for pair in zip(trained, up.chains, strict=True))
    return Barrier(chains, up.joint), *down


def handed_over(num_clients: int, seed_bits: int, flop: int, bits: int) -> Round:
    """Return what comes ahead of the first round of a stage, where anything does.

    Parameters
    ----------
    seed_bits
        What every client is sent to know what is trained.
    flop, bits
        What the federated server computes to hand over, and each client downloads.
    """
    seeds = _if_any(download("seed_download", _DOWN, seed_bits))
    begun = _if_any(download("adapter_download", _DOWN, bits))
    first = (Barrier((seeds,) * num_clients),) if seeds else ()
    if not begun:
        return first
    idle: tuple[Chain, ...] = ((),) * num_clients
    return (
        *first,
        Barrier(idle, (Compute("hand_over", FEDERATED_SERVER, flop),)),
        Barrier((begun,) * num_clients),
    )


def averaged(
    each: Sequence[SplitAmounts | WholeAmounts | None], *, is_bound: bool = False, aggregate_flop: int = 0
) -> Round:
    """Return the upload of adapters, and the download of their average, where there are any.

    The server is charged what it takes to decode the uploads, and ``aggregate_flop``.
    """
    if not any(one is not None and one.adapter_bits for one in each):
        return ()
    back = max(one.adapter_download_bits for one in each if one is not None)

    @cache
    def up(one: SplitAmounts | WholeAmounts | None) -> Chain:
        if one is None:
            return ()
        encoded = (Compute("encode_update", CLIENT, one.encode_flop),) if one.encode_flop else ()
        return (*encoded, *_if_any(upload("adapter_upload", _UP, one.adapter_bits, is_bound=is_bound)))

    @cache
    def down(one: SplitAmounts | WholeAmounts | None) -> Chain:
        bits = back if one is None else one.adapter_download_bits
        rebuilt = rebuild if one is None else one.rebuild_flop
        stages = _if_any(download("adapter_download", _DOWN, bits))
        return (*stages, Compute("rebuild_update", CLIENT, rebuilt)) if rebuilt else stages

    sent = [one for one in each if one is not None]
    rebuild = max(one.rebuild_flop for one in sent)
    decoded = sum(one.decode_flop for one in (sent[:1] if sent[0].is_summed else sent))
    average = Compute("aggregate", FEDERATED_SERVER, decoded + aggregate_flop)
    return Barrier(tuple(map(up, each)), (average,)), Barrier(tuple(map(down, each)))


_UP, _DOWN = "federated_uplink", "federated_downlink"


def _server(link: str) -> str:
    return FEDERATED_SERVER if link.startswith("federated") else MAIN_SERVER


def _if_any(transfer: Transfer) -> tuple[Stage, ...]:
    return (transfer,) if transfer.bits else ()
