"""Which choices no other beats in everything."""

import numpy as np
from numpy.typing import NDArray

from cosim.units import Floats


def pareto_front(costs: Floats) -> NDArray[np.bool_]:
    """Return which rows no other row is at least as good as in all and better in one, shape (num_rows,).

    Parameters
    ----------
    costs
        Less is better, shape (num_rows, num_costs). A row with a nan is on no
        front and beats nobody; equal rows are in it together or not.

    Examples
    --------
    >>> pareto_front(np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [3.0, 1.0]])).tolist()
    [True, True, False, True]
    """
    costs = np.asarray(costs, dtype=np.float64)
    usable: NDArray[np.bool_] = np.asarray(~np.isnan(costs).any(axis=1))
    front = usable.copy()
    for row in np.flatnonzero(usable):
        beaten_by = (costs[usable] <= costs[row]).all(axis=1) & (costs[usable] < costs[row]).any(axis=1)
        front[row] = not beaten_by.any()
    return front
