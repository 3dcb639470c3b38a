"""A reward of your own: Eq. (8), and a price for windows that take longer than a deadline.

    python examples/own_reward.py        # 20 iterations of EMH-PPO, half a minute
    python examples/own_reward.py 1
    rllib train --algo EMH-PPO --env examples.own_reward:Deadline --config \
        '{"env_config": {"deadline_ms": 30}, "demonstrations": 0}' \
        --stop '{"training_iteration": 20}'

Expect a lower reward than Eq. (8) gives, and `latency_ms` to fall as training goes on.
"""

import dataclasses
import sys

import rllib_mec
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.envs import TaskWindowMDP


@rllib_mec.register_env
@dataclasses.dataclass(frozen=True)
class Deadline(TaskWindowMDP):
    """Task windows with a deadline, in ms: a field of its own is an argument of the env."""

    env_id = "deadline_window_v0"

    deadline_ms: float = 50.0

    def task_rewards(self, outcome):
        """Eq. (8)'s shares, less what is late in equal parts."""
        late_ms = (outcome.latency_ms - self.deadline_ms).clip(min=0.0)
        return super().task_rewards(outcome) - late_ms[:, None] / self.scenario.max_window

    def __str__(self):
        """What a table says of it, besides the scenario."""
        return f"{super().__str__()} due in {self.deadline_ms:g} ms"


if __name__ == "__main__":
    config = EMHPPOConfig().environment("deadline_window_v0", env_config={"deadline_ms": 30.0})
    algorithm = config.training(demonstrations=0).build_algo()
    for iteration in range(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
        found = algorithm.train()["env_runners"]
        print(iteration, *(f"{key} {found[key]:.2f}" for key in ("reward", "latency_ms")))
    algorithm.stop()
