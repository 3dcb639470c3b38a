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
from rllib_mec.envs import TaskWindowMDP, VectorTaskWindow
from rllib_mec.network.scenario import Scenario


class LastWindowWorlds(VectorTaskWindow):
    """Task windows that show which queues could be emptied in one."""

    def observation(self):
        """The state of Eq. (6), then 1 for each MD with a last window to come."""
        is_last = self.queues <= self.max_window
        return np.concatenate([super().observation(), is_last], axis=1, dtype=np.float32)


@rllib_mec.register_env
@dataclasses.dataclass(frozen=True)
class LastWindow(TaskWindowMDP):
    """Task windows whose agents see which MDs are in their last one."""

    env_id = "last_window_v0"

    @property
    def observation_size(self):
        """Three numbers of each MD."""
        return 3 * self.scenario.num_devices

    def make(self, num_worlds, seed=0, *, num_tasks=None, distance_m=None):
        """Make worlds; see the base class."""
        fixed = {"num_tasks": num_tasks, "distance_m": distance_m}
        return LastWindowWorlds(self.scenario, num_worlds, seed, **fixed)


if __name__ == "__main__":
    print(LastWindow(Scenario()).make(1, num_tasks=4).reset().round(2))
    config = EMHPPOConfig().environment("last_window_v0").training(demonstrations=0)
    algorithm = config.build_algo()
    for iteration in range(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
        print(iteration, "reward", round(algorithm.train()["env_runners"]["reward"], 2))
    algorithm.stop()
