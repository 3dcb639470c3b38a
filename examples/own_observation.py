"""An observation of your own: after queues and distances, whether each MD is in its last window.

    python examples/own_observation.py        # 20 iterations of EMH-PPO, half a minute
    python examples/own_observation.py 1
    rllib train --algo EMH-PPO --env examples.own_observation:LastWindow --config \
        '{"demonstrations": 0}' --stop '{"training_iteration": 20}'

Expect an observation of 3N numbers, and training as on our own environment.
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
class LastWindow(TaskWindowMDP):
    """Task windows whose agents see which MDs are in their last one."""

    env_id = "last_window_v0"

    @property
    def observation_layout(self):
        """N numbers more, under a name."""
        return super().observation_layout.plus(is_last=self.scenario.num_devices)

    def observe(self, state):
        """The state of Eq. (6), then 1 for each MD with a last window to come."""
        is_last = state.queues <= self.scenario.max_window
        return np.concatenate([super().observe(state), is_last], axis=1, dtype=np.float32)


if __name__ == "__main__":
    print(LastWindow(Scenario()).make(1, num_tasks=4).reset().round(2))
    config = EMHPPOConfig().environment("last_window_v0").training(demonstrations=0)
    algorithm = config.build_algo()
    for iteration in range(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
        print(iteration, "reward", round(algorithm.train()["env_runners"]["reward"], 2))
    algorithm.stop()
