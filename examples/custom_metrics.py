"""A callback that logs metrics of its own: what share of an episode's windows waited for nobody.

    python examples/custom_metrics.py        # 10 iterations
    python examples/custom_metrics.py 1

Expect `no_waiting_share` in each result, and in `rllib-mec plot --metrics` where Tune trains.
"""

import sys

import numpy as np
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback

import rllib_mec  # noqa: F401 - registers the environments
from rllib_mec.algorithms.multi_agent_env import one_policy_for_all


class NoWaiting(RLlibCallback):
    """Reads the infos of an episode's task windows when it ends."""

    def on_episode_end(self, *, episode, metrics_logger, **kwargs):
        """Log the share of the windows without waiting."""
        # All MDs' infos have the same waiting time; the first is that of the reset, and empty.
        infos = episode.agent_episodes["md_0"].get_infos()[1:]
        share = np.mean([info["waiting_ms"] == 0.0 for info in infos])
        metrics_logger.log_value("no_waiting_share", share, window=100)


config = (
    PPOConfig()
    .environment("mec_task_window_v0", env_config={"num_devices": 2, "actions": "flat"})
    .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
    .multi_agent(policies={"shared"}, policy_mapping_fn=one_policy_for_all)
    .training(train_batch_size_per_learner=1024, minibatch_size=256, num_epochs=4)
    .callbacks(NoWaiting)
)
algorithm = config.build_algo()
for iteration in range(int(sys.argv[1]) if len(sys.argv) > 1 else 10):
    found = algorithm.train()["env_runners"]
    print(iteration, "no_waiting_share", round(found["no_waiting_share"], 3))
algorithm.stop()
