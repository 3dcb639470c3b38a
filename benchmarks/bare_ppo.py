"""A PPO loop in one file, without RLlib: what EMH-PPO's framework overhead is measured against.

It has the networks, batch, minibatches and epochs of ``EMHPPOConfig``'s defaults and steps the same
batch of worlds. It is a yardstick for ``throughput.py``, not a training tool.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical, Normal

from rllib_mec.envs.task_window import TaskWindowMDP
from rllib_mec.envs.vector import VectorEnv
from rllib_mec.network.scenario import Scenario

WORLDS, STEPS, EPOCHS, MINIBATCH = 128, 16, 4, 512
QUEUE_STEPS, LEAD_STEPS = 64, 6
GAMMA, LAMBDA, CLIP, ENTROPY, LR = 0.95, 0.95, 0.2, 0.02, 3e-4


class Agents(nn.Module):
    """The N agent networks side by side."""

    def __init__(self, n: int, sizes: list[int]):
        """Make weights ``(N, in, out)``."""
        super().__init__()
        shapes = list(itertools.pairwise(sizes))
        self.weights = nn.ParameterList(torch.randn(n, i, o) * (2 / i) ** 0.5 for i, o in shapes)
        self.biases = nn.ParameterList(torch.zeros(n, 1, o) for _, o in shapes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, B, in)`` to ``(B, N, out)``."""
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(b, x, w)
            x = torch.relu(x) if i < len(self.weights) - 1 else x
        return x.transpose(0, 1)


class Net(nn.Module):
    """Embedding, agent networks and critic of Section V-A."""

    def __init__(self, n: int, w: int, s: int, c: int, m: int):
        """Make the networks for N MDs, windows of w tasks, and s, c, m choices."""
        super().__init__()
        self.n, self.w, self.sizes = n, w, (s, c, m, 1, 1)
        seen = 2 * n + n * n + n * (QUEUE_STEPS + LEAD_STEPS)
        self.embed = nn.Sequential(nn.Linear(seen, 512), nn.GELU(), nn.Linear(512, 256), nn.GELU())
        self.agents = Agents(n, [256 + n, 256, 128, 64, w * sum(self.sizes) + w])
        self.critic = nn.Sequential(
            nn.Linear(seen, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
            nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, w),
        )  # fmt: skip

    def features(self, obs: torch.Tensor) -> torch.Tensor:
        """The state and how the queues compare, as ``compare_queues`` shows them by default."""
        queues = obs[..., : self.n]
        falling = queues.sort(dim=-1, descending=True).values
        order = queues.argsort(dim=-1, descending=True, stable=True)
        ranks = nn.functional.one_hot(order.argsort(dim=-1), self.n).to(obs.dtype)
        lead = falling - falling[..., -1:]
        steps = [
            (x.unsqueeze(-1) / 0.02 - torch.arange(count, dtype=x.dtype)).clamp(0, 1).flatten(-2)
            for x, count in ((falling, QUEUE_STEPS), (lead, LEAD_STEPS))
        ]
        return torch.cat([obs, ranks.flatten(-2), *steps], dim=-1)

    def dists(self, seen: torch.Tensor) -> list:
        """The five heads' distributions: partition, channel, server, power, window."""
        n = self.n
        ranks = seen[:, 2 * n : 2 * n + n * n].unflatten(-1, (n, n)).transpose(0, 1)
        x = self.embed(seen).expand(n, -1, -1)
        out = self.agents(torch.cat([x, ranks], dim=-1))
        slots = out[..., : -self.w].unflatten(-1, (self.w, -1))
        s, c, m, mean, log_std = slots.split(self.sizes, dim=-1)
        power = Normal(mean.squeeze(-1).sigmoid(), log_std.squeeze(-1).clamp(-4, 0.5).exp())
        logits = [Categorical(logits=x) for x in (s, c, m)]
        return [*logits, power, Categorical(logits=out[..., -self.w :])]


HEADS = ("partition", "channel", "server", "power", "window")


def train(num_iterations: int, seed: int = 0) -> float:
    """Train for some iterations after a warm-up one; returns windows per second."""
    torch.manual_seed(seed)
    scenario = Scenario()
    worlds = TaskWindowMDP(scenario).make(WORLDS, seed)
    net = Net(
        scenario.num_devices, scenario.max_window, worlds.num_points,
        scenario.num_channels, scenario.num_servers,
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), lr=LR, eps=1e-5, fused=True)
    obs = torch.from_numpy(worlds.reset())
    for iteration in range(num_iterations + 1):
        if iteration == 1:
            start = time.perf_counter()
        obs = _iterate(net, optimizer, worlds, obs)
    return num_iterations * WORLDS * STEPS / (time.perf_counter() - start)


def _iterate(
    net: Net, optimizer: torch.optim.Optimizer, worlds: VectorEnv, obs: torch.Tensor
) -> torch.Tensor:
    rows: dict[str, list] = {k: [] for k in (*HEADS, "obs", "task", "win", "played", "r", "done")}
    with torch.no_grad():
        for _ in range(STEPS):
            dists = net.dists(net.features(obs))
            actions = [d.sample() for d in dists]
            logp = [d.log_prob(a) for d, a in zip(dists, actions, strict=True)]
            played = dict(zip(HEADS, (a.numpy() for a in actions), strict=True))
            step = worlds.step({**played, "power": played["power"].clip(0, 1)})
            for head, action in zip(HEADS, actions, strict=True):
                rows[head].append(action)
            rows["obs"].append(obs)
            rows["task"].append(sum(logp[:4]))
            rows["win"].append(logp[4])
            rows["played"].append(torch.from_numpy(step.played.astype(np.float32)))
            rows["r"].append(torch.from_numpy((step.task_rewards / 10.0).astype("f4")))
            rows["done"].append(torch.from_numpy(step.terminated.astype(np.float32)))
            obs = torch.from_numpy(step.observation)
        values = net.critic(net.features(torch.stack([*rows["obs"], obs])))
    advantage, running = torch.zeros_like(values[:-1]), torch.zeros_like(values[0])
    for t in reversed(range(STEPS)):
        going = (1 - rows["done"][t])[:, None]
        delta = rows["r"][t] + GAMMA * going * values[t + 1] - values[t]
        running = delta + GAMMA * LAMBDA * going * running
        advantage[t] = running
    target = (advantage + values[:-1]).flatten(0, 1)
    advantage = advantage.flatten(0, 1)
    total = advantage.sum(1)
    advantage = (advantage - advantage.mean(0)) / (advantage.std(0) + 1e-6)
    total = (total - total.mean()) / (total.std() + 1e-6)
    data = {k: torch.cat(v) for k, v in rows.items() if k not in ("r", "done")}
    for _ in range(EPOCHS):
        for i in torch.randperm(len(target)).split(MINIBATCH):
            seen = net.features(data["obs"][i])
            dists = net.dists(seen)
            logp = [d.log_prob(data[h][i]) for d, h in zip(dists, HEADS, strict=True)]
            played = data["played"][i]
            active = played[..., 0]
            task = _surrogate((sum(logp[:4]) - data["task"][i]) * played, advantage[i][:, None])
            win = _surrogate((logp[4] - data["win"][i]) * active, total[i][:, None])
            entropy = sum((d.entropy() * played).sum((1, 2)).mean() for d in dists[:4])
            entropy = entropy / net.w + 3 * (dists[4].entropy() * active).sum(1).mean()
            loss = -(task * played).sum((1, 2)).mean() / net.w - (win * active).sum(1).mean()
            loss = loss + 0.25 * (net.critic(seen) - target[i]).square().mean()
            optimizer.zero_grad()
            (loss - ENTROPY * entropy).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
    return obs


def _surrogate(log_ratio: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)


if __name__ == "__main__":
    print(f"{train(10):.0f} windows/s")
