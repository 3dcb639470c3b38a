"""Queues of your own: one MD, drawn anew in every episode, has five times the others' tasks.

    python examples/own_arrivals.py        # 20 iterations of EMH-PPO, half a minute
    python examples/own_arrivals.py 1

Expect first queues such as 26, 5, 6, and training as on our own environment.
"""

import dataclasses
import sys

import numpy as np

import rllib_mec
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.envs import TaskWindowMDP
from rllib_mec.network.scenario import Scenario


@rllib_mec.register_env
@dataclasses.dataclass(frozen=True)
class RushHour(TaskWindowMDP):
    """Task windows of a network in which one MD at a time is busy."""

    env_id = "rush_hour_v0"

    busy_factor: float = 5.0

    def draw_tasks(self, draw):
        """Poisson queues, one of them longer; a word of one's own has numbers of its own."""
        busiest = draw.uniform("who is busy").argmax(1)
        is_busy = np.arange(draw.num_devices) == busiest[:, None]
        quiet = np.maximum(super().draw_tasks(draw) // self.busy_factor, 1)
        return np.where(is_busy, self.busy_factor * quiet, quiet).astype(int)


if __name__ == "__main__":
    print(RushHour(Scenario(mean_tasks=30)).make(4, seed=1).queues)
    config = EMHPPOConfig().environment("rush_hour_v0").training(demonstrations=0)
    algorithm = config.build_algo()
    for iteration in range(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
        print(iteration, "reward", round(algorithm.train()["env_runners"]["reward"], 2))
    algorithm.stop()
