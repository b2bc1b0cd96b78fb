"""What is given away, by the accountants, against closed forms; and who is asked what, how often."""

import sys
from io import StringIO
from math import comb, exp, log, log1p, sqrt

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from cosim.errors import ScenarioError
from cosim.learning import privacy
from cosim.learning.gradients.dp_sgd import DpSgd
from cosim.learning.privacy import ORDERS, Accountant, Ledger, Privacy
from cosim.learning.update import Release
from cosim.record.folder import Record
from cosim.report.page.content import run_content
from cosim.report.summary import summarise
from cosim.report.terminal import PlainConsole, show
from cosim.runs import run
from cosim.scenario.build import prepare

pytest.importorskip("dp_accounting", reason="dp-accounting is not installed (extra 'privacy')")


def epsilon_by_moments(rdp, delta, orders=ORDERS):
    """Return the least epsilon over the orders, by C. Canonne et al., arXiv 2004.00010, proposition 12."""
    return max(
        0.0,
        min(
            at_order + log1p(-1.0 / order) - log(delta * order) / (order - 1.0)
            for order, at_order in zip(orders, rdp, strict=True)
        ),
    )


def log_moment(order, rate, noise_multiplier):
    """Return a bound on (order - 1) times the divergence of a Gaussian sampled without replacement.

    Y.-X. Wang, B. Balle, S. Kasiviswanathan, arXiv 1808.00087, theorem 27, in numbers of
    many digits, where the differences it takes of huge numbers need no care.
    """
    from mpmath import mp, mpf

    with mp.workdps(200):
        # exp((j - 1) j / (2 sigma^2)) of the unsampled mechanism at order j
        moment = [mp.exp(mpf(j) * (j - 1) / (2 * mpf(noise_multiplier) ** 2)) for j in range(order + 2)]

        def difference(count):
            return sum((-1) ** (count - j) * comb(count, j) * moment[j] for j in range(count + 1))

        differences = {count: difference(count) for count in range(2, order + 2, 2)}
        total = mpf(1)
        for j in range(2, order + 1):
            # 4 sqrt(..) is tighter than 2 E for large noise
            tight = 4 * mp.sqrt(abs(differences[2 * (j // 2)] * differences[2 * ((j + 1) // 2)]))
            if j == 2:
                tight = 4 * (moment[2] - 1)
            total += mpf(rate) ** j * comb(order, j) * min(tight, 2 * moment[j])
        return float(mp.log(total))


def sampled(order, rate, noise_multiplier):
    """Return the divergence at any order; between whole ones the log moment is convex."""
    low = int(order)
    share = order - low
    ends = [0.0 if one == 1 else log_moment(one, rate, noise_multiplier) for one in {low, low + (share > 0)}]
    return (ends[0] * (1.0 - share) + ends[-1] * share) / (order - 1.0)


def analytic_epsilon(mu, delta):
    """Return the exact epsilon of a Gaussian mechanism, by B. Balle, Y.-X. Wang, ICML 2018."""

    def excess(epsilon):
        tails = norm.cdf(mu / 2 - epsilon / mu), exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
        return tails[0] - tails[1] - delta

    return brentq(excess, 0.0, 200.0, xtol=1e-12) if excess(0.0) > 0.0 else 0.0


@pytest.mark.parametrize(("noise_multiplier", "count"), [(0.5, 1), (2.0, 7), (20.0, 300)])
def test_moments_of_unsampled_releases_equal_the_closed_form(noise_multiplier, count):
    rdp = [count * order / (2.0 * noise_multiplier**2) for order in ORDERS]
    found = Accountant("rdp", noise_multiplier, 1e-5).epsilon(count)
    assert found == pytest.approx(epsilon_by_moments(rdp, 1e-5), abs=1e-6)


@pytest.mark.parametrize(("noise_multiplier", "count"), [(1.0, 5), (4.0, 200)])
def test_moments_of_sampled_releases_equal_the_formula(noise_multiplier, count, monkeypatch):
    orders = (1.5, 2, 2.5, 3, 4, 6, 9, 16)
    monkeypatch.setattr(privacy, "ORDERS", orders)
    rdp = [count * sampled(order, 8 / 100, noise_multiplier) for order in orders]
    found = Accountant("rdp", noise_multiplier, 1e-5, (8, 100)).epsilon(count)
    assert found == pytest.approx(epsilon_by_moments(rdp, 1e-5, orders), abs=1e-6)


@pytest.mark.parametrize("delta", [1e-5, 1e-3])
@pytest.mark.parametrize(("noise_multiplier", "count"), [(0.64, 3), (1.0, 1), (30.0, 100), (300.0, 1)])
def test_loss_distributions_are_within_a_thousandth_of_the_exact_epsilon_and_never_below(
    noise_multiplier, count, delta
):
    exact = analytic_epsilon(sqrt(count) / noise_multiplier, delta)
    found = Accountant("pld", noise_multiplier, delta).epsilon(count)
    assert exact - 1e-9 <= found <= exact + 1e-3
    assert found <= Accountant("rdp", noise_multiplier, delta).epsilon(count)


PRIVATE = {
    "scheme": {"kind": "federated", "num_rounds": 4, "local_steps": 2},
    "training.gradients": {"kind": "dp_sgd"},
    "training.batch_size": 2,
    "clients.count": 3,
}
OF_CLIENTS = {
    **PRIVATE,
    "training.gradients": {"kind": "mean"},
    "scheme.update": [{"kind": "clip", "max_norm": 0.5}, {"kind": "noise", "std": 2.0}],
}


@pytest.fixture(scope="module")
def task(tiny_scenario):
    return prepare(tiny_scenario(PRIVATE)).task


def test_of_epochs_an_example_counts_each_time_and_the_account_equals_a_count_by_hand(task):
    """Its share in the sum of a mini-batch, squared: the squares of a Gaussian's shifts add up."""
    ledger = Ledger(task, Privacy(level="example"), None, 2)
    draws, size, most = task.draws(0), len(task.shares[0]), 0
    times = np.zeros(size)
    one = Accountant("rdp", 0.5, 1e-5)
    for step in range(20):
        for row in range(size):
            times[row] += list(draws.rows(step)).count(row) ** 2
        most = int(times.max())
        assert ledger.release(0, range(step, step + 1)) == pytest.approx(one.epsilon(most))
    assert most >= 20 * 2 // size
    assert ledger.release(1, range(0)) == 0.0


def test_a_client_counts_once_a_round_and_stops_when_it_cannot_afford_another(tiny_scenario, play):
    two = Accountant("rdp", 2.0, 1e-5).epsilon(2)
    told = play(tiny_scenario({**OF_CLIENTS, "scheme.privacy": {"epsilon": [two, 1e3, 1.01 * two]}})).log
    table = zip(told.metrics.name, told.metrics.actor, told.metrics.round, told.metrics.value, strict=True)
    epsilons = {(actor, round_): value for name, actor, round_, value in table if name == "epsilon"}
    assert list(epsilons) == [
        *((f"client-{client}", round_) for round_ in (1, 2) for client in range(3)),
        ("client-1", 3),
        ("client-1", 4),
    ]
    assert epsilons["client-0", 2] == two == epsilons["client-2", 2]


def test_a_run_ends_evaluated_when_nobody_can_afford_another_round_and_reports_say_so(
    tiny_scenario, tmp_path
):
    two = Accountant("rdp", 2.0, 1e-5).epsilon(2)
    changes = {"scheme.privacy": {"epsilon": two}, "scheme.evaluate_every": 4}
    ended = Record.open(run(tiny_scenario({**OF_CLIENTS, **changes}), tmp_path / "run"))
    assert ended.status == "complete"
    rows = ended.metrics.to_pylist()
    assert [row["round"] for row in rows if row["name"] == "eval_loss"] == [0, 2]
    spent = summarise(ended).spent
    assert (spent.highest, spent.lowest, spent.num_stopped) == (two, two, 3)
    console = PlainConsole(file=StringIO(), width=200)
    show(summarise(ended), console)
    told = f"privacy: epsilon {two:.4g} to {two:.4g} of 3 client(s); 3 stopped, with too little left"
    assert told in console.file.getvalue()
    curves = [one["label"] for one in run_content(ended)["curves"] if one["look"] == "epsilon"]
    assert curves == [f"epsilon of client-{client}" for client in range(3)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({**PRIVATE, "scheme.privacy": {}}, "nothing adds any at the level of a client; set scheme.update"),
        (
            {**OF_CLIENTS, "scheme.privacy": {"level": "example"}},
            "set training.gradients = { kind = 'dp_sgd'",
        ),
        ({**OF_CLIENTS, "scheme.update": [{"kind": "noise"}], "scheme.privacy": {}}, "nothing bounds what"),
        ({**OF_CLIENTS, "scheme.privacy": {"epsilon": 0.5}}, "0.5 is spent before the first round, in which"),
        (
            {**OF_CLIENTS, "scheme.privacy": {"epsilon": [9.0]}},
            "1 are given for 3 clients; give one for each",
        ),
        ({**OF_CLIENTS, "scheme.privacy": {"delta": 1.0}}, "delta: should be less than 1, got 1.0"),
        (
            {
                **PRIVATE,
                "training.draws": "independent",
                "scheme.privacy": {"level": "example", "accountant": "pld"},
            },
            "'pld' has no bound for mini-batches drawn without replacement",
        ),
        ({**PRIVATE, "training.draws": "independent", "training.batch_size": 99}, "draws 99 examples of a"),
        (
            {
                **PRIVATE,
                "scheme.adapter_codec": {"kind": "soft"},
                "scheme.privacy": {"level": "example"},
                "allocator": {"kind": "tsfa", "latency_limit_s": 1.0},
            },
            "'tsfa' has 'energies' reported, which no noise hides",
        ),
        *(
            (
                {**PRIVATE, "scheme.privacy": {"level": "example"}, f"scheme.{name}": value},
                f"{name}{end}: clients",
            )
            for name, value, end in (
                ("aggregator", {"kind": "q_fedavg"}, ".kind"),
                ("weights", {"kind": "q_ffl"}, ".kind"),
                ("scored_examples", 2, ""),
            )
        ),
    ],
)
def test_what_cannot_be_accounted_for_is_refused_in_one_line(changes, message, tiny_scenario):
    with pytest.raises(ScenarioError) as caught:
        prepare(tiny_scenario(changes))
    assert message in str(caught.value)


def test_without_the_library_the_way_to_it_is_named(task, monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ScenarioError, match=r"pip install cosim-fl\[privacy\]"):
        Accountant("rdp", 1.0, 1e-5)


def test_epsilon_is_worked_out_once_for_each_number_of_releases(monkeypatch):
    accountant = Accountant("rdp", 1.0, 1e-5)
    asked = [accountant.epsilon(count) for count in (3, 4, 3, 3)]
    assert accountant.epsilon.cache_info().misses == 2
    assert asked[0] == asked[2] < asked[1]


def test_a_release_says_what_it_hides():
    assert DpSgd(max_norm=0.5, noise_multiplier=3.0).release == Release(0.5, 1.5)
