"""The best assignment of a barrier, proven, by whichever way suits its size.

Where subchannels are all alike, by counting; where they are few and their rates not
capped, by pricing every set of them; else by branch and bound, which ends at a limit more
often than not and then says what it has proven. Its bounds leave out a cap on rates.

Mixed-integer linear programs were tried and given up. Outer approximation of
the rates, solved by HiGHS 1.12 through scipy, called assignments optimal that
were up to two percent worse than ones we could name, in about one program of
fifteen, with presolve and without. None of the ways here takes a solver's word
for a proof.
"""

import numpy as np

from cosim.control.closed_form import Phase
from cosim.control.proving.branch_and_bound import prove_by_prices
from cosim.control.proving.effort import Effort
from cosim.control.proving.equal_subchannels import are_equal, prove_by_counting
from cosim.control.proving.proof import Proof
from cosim.control.proving.subsets import MAX_SUBCHANNELS, prove_by_subsets
from cosim.units import Ints


def prove(
    phase: Phase,
    assignment: Ints,
    bound_s: float = 0.0,
    cutoff_s: float = np.inf,
    gap: float = 1e-4,
    max_nodes: int = 10**9,
    effort: Effort | None = None,
) -> Proof:
    """Return the best assignment of a barrier, or the proof that none beats a cutoff.

    Parameters
    ----------
    phase, assignment
        The barrier, and a decision to begin with, shape (num_subchannels,).
    bound_s, cutoff_s
        A bound known already, and the deadline above which nobody cares, s.
    gap
        The search ends when decision, or cutoff, and bound are this close, as a share.
    max_nodes, effort
        Limits: nodes of branch and bound, and steps of all work together.
    """
    effort = effort or Effort()
    bound_s = max(bound_s, float(phase.compute_s.max()))
    if are_equal(phase):
        return prove_by_counting(phase, assignment)
    if phase.num_subchannels <= MAX_SUBCHANNELS and np.isinf(phase.cap_bit_per_s_per_hz):
        return prove_by_subsets(phase, assignment, bound_s, cutoff_s, gap, effort)
    return prove_by_prices(phase, assignment, bound_s, cutoff_s, gap, max_nodes, effort)
