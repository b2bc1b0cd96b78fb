"""Learn who gets which subchannel by proximal policy optimisation; hold it against allocators and the bound.

``python examples/learned_policy.py [SECONDS [SEED ...]]`` trains on airs of even seeds for so long, on one
thread, from each of these seeds, writes ``policy_SEED.safetensors``, and evaluates on airs of odd seeds,
beside ``start``: what the first of them was before any training.

Source: J. Schulman et al., "Proximal policy optimization algorithms", arXiv 1707.06347, 2017.
"""

import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import torch
from torch import nn
from torch.distributions import Normal

from cosim.control.allocators.equal import Equal
from cosim.control.allocators.fedsllm import Fedsllm
from cosim.control.bounding import with_bound
from cosim.control.closed_form import predict
from cosim.control.decision import Plan
from cosim.control.learned import Form
from cosim.control.policy_file import save
from cosim.envs import CELL

SCENARIO = Path(__file__).with_name("learned_policy.toml")
NUM_COPIES, NUM_STEPS, NUM_EPOCHS, NUM_PARTS, CLIP, DISCOUNT, TRACE = 128, 8, 4, 4, 0.2, 0.5, 0.9


class Agent(nn.Module):
    """What it learns: how much each client's scores are raised on each link, and its power.

    Beneath lies what needs no learning: equal shares in turn, from which a subchannel goes to a client that
    is heard much better on it, against its own mean, than the one whose turn it is.
    """

    def __init__(self, form: Form, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        clients, self.num_raised = form.num_clients, 2 * form.num_clients * len(form.links)
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)
        self.skip = nn.Buffer(torch.zeros(form.num_decided, form.num_observed))
        self.turns = nn.Buffer(torch.zeros(form.num_decided))
        self.spread = nn.Buffer(torch.zeros(form.num_decided, self.num_raised))
        seen = decided = raised = 0
        for _, count in form.links:
            for client in range(clients):
                own = slice(decided + client * count, decided + (client + 1) * count)
                at, own_mean = seen + client * count, seen + clients * count + client
                self.skip[own, at : at + count] = 0.02 * torch.diag(std[at : at + count])  # 0.02 a dB
                self.skip[own, own_mean] = -0.03 * std[own_mean]  # the weaker have more
                turn = torch.arange(count) % clients == client
                self.turns[own] = 0.5 * turn.float()
                self.spread[own, raised + client] = 1.0
                self.spread[decided + clients * count + client, raised + clients + client] = 1.0
            seen, decided = seen + clients * (count + 1), decided + clients * (count + 1)
            raised += 2 * clients
        self.actor = nn.Sequential(
            nn.Linear(form.num_observed, 64), nn.Tanh(), nn.Linear(64, self.num_raised)
        )
        self.critic = nn.Sequential(nn.Linear(form.num_observed, 64), nn.Tanh(), nn.Linear(64, 1))
        self.log_std = nn.Parameter(torch.full((self.num_raised,), -2.3))
        with torch.no_grad():
            self.actor[2].weight.mul_(0.1)
            at_limit = torch.arange(self.num_raised) // clients % 2
            self.actor[2].bias.copy_(0.9 * at_limit)  # powers begin near it

    def forward(self, seen: torch.Tensor) -> tuple[Normal, torch.Tensor]:
        """Return the distribution of what is raised, and the value."""
        inputs = (seen - self.mean) / self.std
        return Normal(self.actor(inputs), self.log_std.exp()), self.critic(inputs).squeeze(-1)

    def decided(self, seen: torch.Tensor, raised: torch.Tensor) -> np.ndarray:
        """Return the action."""
        numbers = raised @ self.spread.T + self.turns + (seen - self.mean) / self.std @ self.skip.T
        return numbers.clamp(-1.0, 1.0).numpy()

    def tensors(self) -> dict[str, np.ndarray]:
        """Return what the file of a policy has."""
        first, last = self.actor[0], self.actor[2]
        named = {"mean": self.mean, "std": self.std, "skip.weight": self.skip}
        named |= {"layers.0.weight": first.weight, "layers.0.bias": first.bias}
        named |= {
            "layers.1.weight": self.spread @ last.weight,
            "layers.1.bias": self.spread @ last.bias + self.turns,
        }
        return {name: one.detach().numpy() for name, one in named.items()}


def train(seconds: float, seed: int) -> tuple[Agent, Form]:
    """Return an agent trained for so long; not at all where that is 0."""
    torch.manual_seed(seed)
    env = gymnasium.make_vec(
        CELL, num_envs=NUM_COPIES, vectorization_mode="vector_entry_point", scenario=SCENARIO
    )
    seen, _ = env.reset(seed=2 * seed, options={"split": "train"})
    first = torch.as_tensor(seen)
    agent = Agent(env.form, first.mean(0), first.std(0) + 1.0)
    descent = torch.optim.Adam(agent.parameters(), lr=1e-3)
    begun, is_new = np.zeros(NUM_COPIES, dtype=bool), np.zeros(NUM_COPIES, dtype=bool)
    began_s, num_played = time.monotonic(), 0
    while time.monotonic() - began_s < seconds:
        rows = []
        for _ in range(NUM_STEPS):
            with torch.no_grad():
                chances, values = agent(torch.as_tensor(seen))
                actions = chances.sample()
            now = seen
            seen, rewards, begun, _, _ = env.step(agent.decided(torch.as_tensor(seen), actions))
            log_chances = chances.log_prob(actions).sum(1)
            rows.append(
                (torch.as_tensor(now), actions, log_chances, values, torch.as_tensor(rewards), is_new, begun)
            )
            is_new, num_played = begun, num_played + int((~is_new).sum())
        with torch.no_grad():
            following, advantage, advantages = agent(torch.as_tensor(seen))[1], torch.zeros(NUM_COPIES), []
        for _, _, _, values, rewards, _, ended in reversed(rows):
            goes_on = torch.as_tensor(~ended).float()
            surprise = rewards.float() + DISCOUNT * goes_on * following - values
            advantage = surprise + DISCOUNT * TRACE * goes_on * advantage
            advantages.insert(0, advantage)
            following = values
        counts = torch.as_tensor(
            ~np.concatenate([row[5] for row in rows])
        )  # steps that only begin again teach nothing
        saw, did, was, valued = (torch.cat([row[place] for row in rows])[counts] for place in range(4))
        better = torch.cat(advantages)[counts]
        goal, better = better + valued, (better - better.mean()) / (better.std() + 1e-8)
        for _ in range(NUM_EPOCHS):
            for part in torch.randperm(len(saw)).chunk(NUM_PARTS):
                chances, values = agent(saw[part])
                ratio = (chances.log_prob(did[part]).sum(1) - was[part]).clamp(-9.0, 9.0).exp()
                gain = torch.min(
                    ratio * better[part], ratio.clamp(1.0 - CLIP, 1.0 + CLIP) * better[part]
                ).mean()
                loss = 0.5 * (values - goal[part]).square().mean() - gain
                descent.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                descent.step()
        rewards = torch.cat([row[4] for row in rows])[counts]
        print(f"{num_played:7d} rounds played, {-rewards.mean():.3f} s a round", flush=True)
    return agent, env.form


def evaluate(policies: dict[str, Path], num_airs: int = 100) -> dict[str, np.ndarray]:
    """Return the length of a first round on held-out airs, s, by allocator, and the bound on it."""
    from cosim.control.allocators.policy import Policy

    env = gymnasium.make(CELL, scenario=SCENARIO)
    env.reset(seed=2026, options={"split": "test"})
    allocators = {"equal": Equal(), "fedsllm": Fedsllm(cut_layers=(1,))}
    allocators |= {name: Policy(file=path) for name, path in policies.items()}
    found: dict[str, list[float]] = {name: [] for name in (*allocators, "bound")}
    for _ in range(num_airs):
        env.reset()
        state = env.unwrapped.cells.state()
        for name, allocator in allocators.items():
            allocation = allocator.allocate(state)
            found[name].append(predict(state, allocation).round_s)
        plan = Plan(found["equal"][-1], 1.0, found["equal"][-1])
        found["bound"].append(with_bound(state, Equal().allocate(state), plan, Equal()).lower_bound_s)
    return {name: np.array(each) for name, each in found.items()}


def main() -> None:
    """Train, write, evaluate, print."""
    torch.set_num_threads(1)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 130.0
    seeds = [int(one) for one in sys.argv[2:]] or [1]
    policies = {}
    for name, lasts_s, seed in (
        ("start", 0.0, seeds[0]),
        *((f"policy_{one}", seconds, one) for one in seeds),
    ):
        agent, form = train(lasts_s, seed)
        policies[name] = Path(f"{name}.safetensors")
        save(policies[name], form, agent.tensors())
    lengths_s = evaluate(policies)
    rng = np.random.default_rng(1)
    drawn = rng.integers(len(lengths_s["bound"]), size=(2000, len(lengths_s["bound"])))
    print("of first rounds on held-out airs, with 95 % intervals (bootstrap, the same airs for all):")
    print("            length, s              above the bound, %       of equal's, %")
    for name, each in lengths_s.items():
        above, share = 100.0 * (each / lengths_s["bound"] - 1.0), 100.0 * each / lengths_s["equal"]
        told = []
        for values in (each, above, share):
            low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
            told.append(f"{values.mean():6.2f} [{low:6.2f}, {high:6.2f}]")
        print(f"{name:10s}", *told)


if __name__ == "__main__":
    main()
