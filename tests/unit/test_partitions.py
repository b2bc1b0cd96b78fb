from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cosim.errors import ScenarioError
from cosim.learning.data import Example
from cosim.learning.data.file import File
from cosim.learning.partition import Partition, rounded
from cosim.learning.partition.dirichlet import Dirichlet
from cosim.learning.partition.group import Group
from cosim.learning.partition.iid import Iid
from cosim.learning.partition.size import Size
from cosim.rng import stream

SHARED = Path(__file__).resolve().parents[3] / "shared"
real = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason=f"no real texts in {SHARED}")


def labelled(num_examples: int, num_labels: int) -> list[Example]:
    return [
        Example("", f"text {row}", label=f"label-{row % num_labels}", fields={"speaker": f"s{row % 13}"})
        for row in range(num_examples)
    ]


def fault(partition: Partition, examples: Sequence[Example], num_clients: int) -> str:
    with pytest.raises(ScenarioError) as caught:
        partition.split(examples, num_clients, stream(1))
    (message,) = caught.value.args
    assert "\n" not in message
    return str(message)


partitions = st.one_of(
    st.just(Iid()),
    st.builds(Dirichlet, alpha=st.floats(0.3, 1e6)),
    st.builds(Group, by=st.just("speaker"), one_group_per_client=st.booleans()),
    st.builds(Size, skew=st.sampled_from(["log_normal", "zipf"]), spread=st.floats(0.0, 1.0)),
)


@settings(deadline=None, max_examples=80)
@given(
    partition=partitions,
    num_examples=st.integers(60, 300),
    num_clients=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_shares_are_disjoint_not_empty_and_the_same_again(
    partition: Partition, num_examples: int, num_clients: int, seed: int
) -> None:
    examples = labelled(num_examples, num_labels=9)
    shares = partition.split(examples, num_clients, stream(seed))
    rows = [row for share in shares for row in share]
    assert len(shares) == num_clients
    assert all(shares)
    assert len(rows) == len(set(rows))
    assert set(rows) <= set(range(num_examples))
    if not (isinstance(partition, Group) and partition.one_group_per_client):
        assert len(rows) == num_examples
    assert shares == partition.split(examples, num_clients, stream(seed))


@settings(deadline=None, max_examples=40)
@given(partition=partitions, num_held_out=st.integers(0, 120), seed=st.integers(0, 2**32))
def test_held_out_shares_go_by_the_training_examples_of_each_group(
    partition: Partition, num_held_out: int, seed: int
) -> None:
    examples, held_out = labelled(120, num_labels=5), labelled(num_held_out, num_labels=7)
    shares = partition.split(examples, 4, stream(seed))
    dealt = partition.split_held_out(examples, shares, held_out, stream(seed, "held_out"))
    rows = [row for share in dealt for row in share]
    assert len(rows) == len(set(rows))
    trained = partition.groups(examples)
    for name, group in partition.groups(held_out).items():
        counts = np.array([len(set(share) & set(trained.get(name, ()))) for share in shares])
        found = np.array([len(set(share) & set(group)) for share in dealt])
        if counts.sum() == 0:
            assert found.sum() == 0
        else:
            assert found.sum() == len(group)
            assert np.abs(found - len(group) * counts / counts.sum()).max() <= 1.0


@given(num_examples=st.integers(1, 200), num_clients=st.integers(1, 10))
def test_iid_shares_differ_by_one_at_most(num_examples: int, num_clients: int) -> None:
    if num_examples >= num_clients:
        shares = Iid().split(labelled(num_examples, 3), num_clients, stream(1))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def label_counts(examples: Sequence[Example], shares: Sequence[Sequence[int]]) -> np.ndarray:
    labels = sorted({str(one.label) for one in examples})
    counts = [Counter(examples[row].label for row in share) for share in shares]
    return np.array([[count[label] for label in labels] for count in counts])


def chi_square(counts: np.ndarray) -> float:
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def test_a_large_alpha_mixes_every_client_alike_and_a_small_one_does_not() -> None:
    examples = labelled(5000, num_labels=10)
    alike, mixed, skewed = (
        chi_square(label_counts(examples, Dirichlet(alpha=alpha).split(examples, 5, stream(3))))
        for alpha in (1e6, 1.0, 0.05)
    )
    # 36 degrees of freedom; systematic rounding at a large alpha leaves far less than chance would.
    assert alike < 36 < mixed < skewed


def test_a_small_alpha_gives_most_of_a_class_to_one_client() -> None:
    examples = labelled(4000, num_labels=20)
    counts = label_counts(examples, Dirichlet(alpha=0.02).split(examples, 4, stream(1)))
    assert np.mean(counts.max(axis=0) / counts.sum(axis=0)) > 0.9


def test_a_class_proportion_has_the_variance_of_its_dirichlet_distribution() -> None:
    alpha, num_clients = 0.7, 4
    examples = labelled(200 * 300, num_labels=300)
    shares = Dirichlet(alpha=alpha).split(examples, num_clients, stream(5))
    proportions = label_counts(examples, shares) / 200
    variance = (num_clients - 1) / (num_clients**2 * (num_clients * alpha + 1))
    assert proportions.mean() == pytest.approx(1 / num_clients)
    assert proportions.var(axis=1).mean() == pytest.approx(variance, rel=0.1)


def test_classes_of_one_example_favour_no_client() -> None:
    examples = labelled(4000, num_labels=4000)
    sizes = [len(share) for share in Dirichlet(alpha=100.0).split(examples, 4, stream(1))]
    assert all(900 < size < 1100 for size in sizes)


@given(
    weights=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=9).filter(lambda one: sum(one) > 0.01),
    total=st.integers(0, 1000),
    offset=st.floats(0.0, 0.999),
)
def test_rounded_counts_add_up_and_stay_within_one(weights: list[float], total: int, offset: float) -> None:
    shares = np.array(weights) / sum(weights)
    counts = rounded(shares, total, offset)
    assert counts.sum() == total
    assert (counts >= 0).all()
    assert (np.abs(counts - shares * total) <= 1 + 1e-6).all()


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 20), min_size=4, max_size=30), seed=st.integers(0, 2**32))
def test_whole_groups_are_dealt_and_balanced(sizes: list[int], seed: int) -> None:
    examples = [
        Example("", "t", fields={"who": f"g{group}"}) for group, size in enumerate(sizes) for _ in range(size)
    ]
    shares = Group(by="who").split(examples, 4, stream(seed))
    owners: dict[str, set[int]] = {}
    for client, share in enumerate(shares):
        for row in share:
            owners.setdefault(examples[row].fields["who"], set()).add(client)
    assert all(len(clients) == 1 for clients in owners.values())
    # Graham's bound for dealing the largest first: nobody exceeds the fair share by more than one group.
    assert max(map(len, shares)) <= len(examples) / 4 + max(sizes)
    assert max(map(len, shares)) - min(map(len, shares)) <= max(sizes)


def test_natural_clients_are_the_largest_groups_the_largest_first() -> None:
    examples = [Example("", "t", fields={"who": who}) for who in "abbcccddddd"]
    shares = Group(by="who", one_group_per_client=True).split(examples, 3, stream(1))
    assert shares == ((6, 7, 8, 9, 10), (3, 4, 5), (1, 2))


def test_the_label_can_be_grouped_by_even_beside_a_field_of_that_name() -> None:
    examples = [Example("", "t", label=f"{row % 4}", fields={"label": "same"}) for row in range(40)]
    shares = Group(by="label").split(examples, 4, stream(1))
    assert {frozenset(examples[row].label for row in share) for share in shares} == {
        frozenset({label}) for label in "0123"
    }


def test_given_fractions_are_kept() -> None:
    shares = Size(fractions=(0.5, 0.3, 0.1)).split(labelled(200, 2), 3, stream(1))
    assert [len(share) for share in shares] == [100, 60, 20]


def test_a_zipf_skew_gives_client_0_most_and_no_spread_gives_all_the_same() -> None:
    sizes = [len(share) for share in Size(skew="zipf").split(labelled(1100, 2), 4, stream(1))]
    assert sizes == [528, 264, 176, 132]
    even = Size(skew="log_normal", spread=0.0).split(labelled(100, 2), 4, stream(1))
    assert [len(share) for share in even] == [25] * 4


def test_log_normal_sizes_hang_on_the_stream() -> None:
    sizes = [[len(share) for share in Size().split(labelled(1000, 2), 4, stream(seed))] for seed in (1, 1, 2)]
    assert sizes[0] == sizes[1] != sizes[2]


def test_another_partition_does_not_shift_the_stream_of_the_rows() -> None:
    examples = labelled(100, 5)
    even, zipf = (
        Size(skew=skew, spread=0.0).split(examples, 4, stream(1)) for skew in ("log_normal", "zipf")
    )
    assert even == zipf


def test_a_client_left_empty_is_named_with_the_way_out() -> None:
    examples = [Example("", "t", fields={"who": who}) for who in "aaabbb"]
    assert fault(Group(by="who"), examples, 3) == (
        "partition group: client-2 is left with 0 of 6 examples in 2 group(s) and needs 1; "
        "take fewer clients, or examples with more values of 'who'"
    )
    assert "client-2 is left with 0" in fault(Group(by="who", one_group_per_client=True), examples, 3)
    assert "take a larger alpha" in fault(Dirichlet(alpha=1e-6, by="who"), examples, 3)
    assert "take a smaller spread" in fault(Size(skew="zipf", spread=10.0), labelled(50, 2), 6)


def test_fewer_examples_than_clients_is_a_fault() -> None:
    assert fault(Iid(min_examples=3), labelled(8, 2), 3) == (
        "partition iid: 3 client(s) need 9 training examples and there are 8; "
        "take fewer clients or more examples"
    )


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    message = fault(Group(by="speeker"), labelled(20, 2), 2)
    assert "no field 'speeker'; known: label, speaker; did you mean 'speaker'?" in message
    assert "no field 'label'" in fault(Dirichlet(), [Example("", "t")] * 4, 2)


def test_fractions_must_fit_clients_and_whole() -> None:
    assert "3 fractions are given for 2 client(s)" in fault(Size(fractions=(0.1,) * 3), labelled(50, 2), 2)
    for fractions in ((0.6, 0.6), (0.5, 0.0), ()):
        with pytest.raises(ValidationError):
            Size(fractions=fractions)


@pytest.mark.real
@real
class TestReal:
    def test_no_meaning_of_e2e_is_on_two_clients(self) -> None:
        folder = SHARED / "data" / "e2e_nlg"
        examples = (
            File(
                train_path=folder / "devset.csv",
                test_fraction=0.1,
                target_column="ref",
                prompt_column="mr",
                group_column="mr",
            )
            .load()
            .train
        )
        shares = Group(by="mr").split(examples, 5, stream(1))
        meanings = [{examples[row].prompt for row in share} for share in shares]
        assert sum(map(len, meanings)) == len(set.union(*meanings))
        assert max(map(len, shares)) - min(map(len, shares)) <= 2

    def test_roles_of_shakespeare_are_clients(self) -> None:
        folder = SHARED / "data" / "shakespeare_roles"
        examples = (
            File(train_path=folder / "train.jsonl", test_path=folder / "test.jsonl", group_column="client")
            .load()
            .train
        )
        shares = Group(by="client", one_group_per_client=True, min_examples=50).split(examples, 20, stream(1))
        roles = [{examples[row].fields["client"] for row in share} for share in shares]
        assert all(len(role) == 1 for role in roles)
        assert len(set.union(*roles)) == 20
        sizes = [len(share) for share in shares]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] == max(Counter(one.fields["client"] for one in examples).values())
