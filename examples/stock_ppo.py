"""Train RLlib's own PPO on our environment, by name.

All MDs share one policy. `actions: flat` gives it one MultiDiscrete instead of a hybrid Dict, with
which RLlib also evaluates greedily and takes an LSTM.

    python examples/stock_ppo.py        # 20 iterations, a minute
    python examples/stock_ppo.py 1

Expect the return of an episode to rise, from about -1500.
"""

import sys

from ray.rllib.algorithms.ppo import PPOConfig

import rllib_mec  # noqa: F401 - registers the environments
from rllib_mec.algorithms.multi_agent_env import one_policy_for_all

iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 20

config = (
    PPOConfig()
    .environment("mec_task_window_v0", env_config={"num_devices": 3, "actions": "flat"})
    .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
    .multi_agent(policies={"shared"}, policy_mapping_fn=one_policy_for_all)
    .training(train_batch_size_per_learner=2048, minibatch_size=512, num_epochs=4)
    .evaluation(
        evaluation_interval=iterations, evaluation_config={"explore": False}, evaluation_duration=5
    )
)
algorithm = config.build_algo()
for iteration in range(iterations):
    result = algorithm.train()
    print(iteration, "return", round(result["env_runners"]["episode_return_mean"], 1))
greedy = result["evaluation"]["env_runners"]["episode_return_mean"]
print("greedy return", round(greedy, 1))
algorithm.stop()
