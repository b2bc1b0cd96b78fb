"""Who gets which channel so that the worst pair is as good as can be: matchings of clients and channels."""

import numpy as np

from cosim.units import Floats, Ints


def exact_matching(scores: Floats, count: int) -> Ints:
    """Return ``count`` pairs whose least score is the largest there can be, and among those the largest sum.

    The threshold is found by bisection over the sorted scores, each step a maximum matching of the
    pairs above it; the sum by an assignment among them.

    Parameters
    ----------
    scores
        Of each pair, shape (num_clients, num_channels); minus infinity where it must not be.
    count
        Pairs that are wanted.

    Returns
    -------
    ndarray
        The channel of each client, -1 for none, shape (num_clients,).

    Raises
    ------
    ValueError
        If there are not so many pairs.

    Source
    ------
    Method card 9, for the modified Hungarian method of arXiv 2106.13039: scipy's matchings
    in place of its own.

    Examples
    --------
    >>> exact_matching(np.array([[9.0, 3.0], [8.0, 1.0]]), 2).tolist()
    [1, 0]
    """
    from scipy.optimize import linear_sum_assignment

    num_clients, num_channels = scores.shape
    allowed = np.isfinite(scores)
    _refuse_too_many(allowed, count)
    levels = np.unique(scores[allowed])
    # as good as the count-th best client, and the count-th best channel, is the most there can be
    most = min(np.sort(scores.max(axis=axis))[-count] for axis in (0, 1))
    low, high = 0, int(np.searchsorted(levels, most))
    while low < high:
        middle = (low + high + 1) // 2
        if _most_pairs(scores >= levels[middle]) >= count:
            low = middle
        else:
            high = middle - 1
    kept = scores >= levels[low]
    # columns for those who get none are worth more than all channels: so many clients take them
    span = float(levels[-1] - levels[low]) + 1.0
    worth = np.where(kept, scores - levels[low], -4.0 * span * num_clients)
    padded = np.hstack([worth, np.full((num_clients, num_clients - count), 2.0 * span * num_clients)])
    _, columns = linear_sum_assignment(padded, maximize=True)
    return np.where(columns < num_channels, columns, -1).astype(np.int64)


def greedy_matching(scores: Floats, count: int) -> Ints:
    """Return ``count`` pairs taken in the order of their scores, then the worst one bettered while that goes.

    Bettered it is by another client or channel that is free, or by an exchange of channels with
    another pair, whichever leaves the better worst of the pairs it makes.

    Parameters
    ----------
    scores, count
        As of :func:`exact_matching`; so is what is returned, and raised.

    Source
    ------
    Method card 9 (recalled), for the greedy matching with a better alternative of arXiv 2106.13039.
    """
    _refuse_too_many(np.isfinite(scores), count)
    channel_of = _in_order(scores, count)
    if (channel_of >= 0).sum() < count:  # taken in order, no other pairs were left
        channel_of = exact_matching(np.where(np.isfinite(scores), 0.0, -np.inf), count)
    while _better_the_worst(scores, channel_of):
        pass
    return channel_of


def _in_order(scores: Floats, count: int) -> Ints:
    num_clients, num_channels = scores.shape
    channel_of, is_free = [-1] * num_clients, [True] * num_channels
    order = np.argsort(-scores, axis=None, kind="stable")[: int(np.isfinite(scores).sum())]
    for client, channel in zip(*(one.tolist() for one in divmod(order, num_channels)), strict=True):
        if not count:
            break
        if channel_of[client] < 0 and is_free[channel]:
            channel_of[client], is_free[channel], count = channel, False, count - 1
    return np.array(channel_of)


def _better_the_worst(scores: Floats, channel_of: Ints) -> bool:
    """Better the worst pair, in place; returns whether that was possible."""
    matched = np.flatnonzero(channel_of >= 0)
    held = scores[matched, channel_of[matched]]
    worst = int(matched[held.argmin()])
    least, channel = float(held.min()), int(channel_of[worst])
    clients = np.append(np.flatnonzero(channel_of < 0), worst)
    channels = np.append(np.setdiff1d(np.arange(scores.shape[1]), channel_of), channel)
    alone = scores[np.ix_(clients, channels)]
    swapped = np.minimum(scores[worst, channel_of[matched]], scores[matched, channel])
    if max(alone.max(), swapped.max()) <= least:
        return False
    if alone.max() >= swapped.max():
        row, column = divmod(int(alone.argmax()), len(channels))
        channel_of[worst] = -1
        channel_of[clients[row]] = channels[column]
    else:
        other = matched[swapped.argmax()]
        channel_of[worst], channel_of[other] = channel_of[other], channel
    return True


def _most_pairs(allowed: "np.ndarray") -> int:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    return int((maximum_bipartite_matching(csr_array(allowed), perm_type="column") >= 0).sum())


def _refuse_too_many(allowed: "np.ndarray", count: int) -> None:
    most = min(allowed.shape) if allowed.all() else _most_pairs(allowed)
    if not 1 <= count <= most:
        raise ValueError(f"{count} pairs are wanted, and {most} are possible")
