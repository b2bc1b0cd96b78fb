"""The server's momentum and control terms against the average, number by number, and a plain loop."""

import numpy as np
import pytest
import torch

from cosim.learning.server_optimizer import Sender
from cosim.learning.server_optimizer.fedpeptao import FedPepTao
from cosim.learning.server_optimizer.fedpeptao_code import FedPepTaoCode

RATES, CLIENTS = 0.4, 4


def drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(5, generator=generator, dtype=torch.float64)}


def senders(numbers, seed):
    weight = 1.0 / len(numbers)
    return [
        Sender(one, weight, 1 / CLIENTS, len(numbers) / CLIENTS, RATES, drawn(10 * seed + one))
        for one in numbers
    ]


def mean(sent):
    return {"a": sum(one.weight * one.upload["a"] for one in sent)}


def test_without_momentum_and_control_the_average_itself_is_taken():
    """To a few ulps: before - (before - average)."""
    part, before, sent = FedPepTao(momentum=0.0, control=False), drawn(0), senders([0, 2], 1)
    after, _ = part.step_each(before, mean(sent), {}, sent)
    assert float((after["a"] - mean(sent)["a"]).abs().max()) < 8 * np.finfo(float).eps


def test_control_is_zero_where_all_take_part_and_makes_up_for_those_left_out():
    """What others sent last is taken for what they would send: constant updates give the mean of all."""
    part, state = FedPepTao(momentum=0.0), {}
    before, away = drawn(0), [drawn(one)["a"] for one in range(CLIENTS)]

    def constant(numbers):
        weight = 1.0 / len(numbers)
        uploads = [(one, {"a": before["a"] + away[one]}) for one in numbers]
        return [Sender(one, weight, 1 / CLIENTS, weight, RATES, sent) for one, sent in uploads]

    everyone = constant(range(CLIENTS))
    after, state = part.step_each(before, mean(everyone), state, everyone)
    torch.testing.assert_close(after["a"], before["a"] + sum(away) / CLIENTS, rtol=0, atol=1e-14)
    before = after
    some = constant([1, 3])
    after, state = part.step_each(before, mean(some), state, some)
    torch.testing.assert_close(after["a"], before["a"] + sum(away) / CLIENTS, rtol=0, atol=1e-14)


def test_momentum_is_a_running_mean_of_updates():
    part, before, state, v = FedPepTao(momentum=0.7, control=False, learning_rate=0.5), drawn(0), {}, 0.0
    for seed in range(1, 5):
        average = drawn(seed)
        v = 0.7 * v + 0.3 * (before["a"] - average["a"])
        after, state = part.step(before, average, state)
        torch.testing.assert_close(after["a"], before["a"] - 0.5 * v, rtol=0, atol=1e-14)
        before = after


def test_the_authors_code_number_by_number():
    part, state, before = FedPepTaoCode(), {}, drawn(0)
    c, own, v, delta, rate = 0.0, [0.0] * CLIENTS, 0.0, None, 0.05
    for seed, numbers in enumerate(([0, 1], [1, 3], [0, 2], [3, 2]), start=1):
        sent = senders(numbers, seed)
        average = mean(sent)
        after, state = part.step_each(before, average, state, sent)
        changes = []
        for one in sent:
            new = own[one.client] - c + (before["a"] - one.upload["a"]) / RATES
            changes.append(new - own[one.client])
            own[one.client] = new
        c = c + 0.5 * sum(changes) / 2
        last, delta = delta, before["a"] - average["a"]
        expected = average["a"]
        if last is not None:
            each = [0.9 * v + 0.1 * (last - delta) + c - own[one.client] for one in sent]
            expected = sum(average["a"] - max(rate, 1e-4) * one for one in each) / 2
            v = sum(each) / 2
        rate *= 0.99
        torch.testing.assert_close(after["a"], expected, rtol=0, atol=1e-13)
        before = after


@pytest.mark.parametrize("seed", range(3))
def test_what_a_client_sent_before_is_kept_until_it_sends_again(seed):
    part, before = FedPepTao(), drawn(0)
    _, state = part.step_each(before, drawn(1), {}, senders([0, 1], seed))
    _, later = part.step_each(before, drawn(2), state, senders([1, 2], seed + 1))
    assert torch.equal(later["own/0/a"], state["own/0/a"])
    assert not torch.equal(later["own/1/a"], state["own/1/a"])
    common = sum(later[f"own/{one}/a"] for one in range(3)) / CLIENTS
    torch.testing.assert_close(later["common/a"], common, rtol=0, atol=1e-14)
