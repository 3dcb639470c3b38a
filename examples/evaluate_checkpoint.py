"""Evaluate a trained policy by the paper's protocol, and ask it for a decision.

    python examples/train_emh_ppo.py results
    python examples/evaluate_checkpoint.py results     # or `results/checkpoint_000000`
    python examples/evaluate_checkpoint.py ~/ray_results/emh-ppo 20

A checkpoint, the folder of a trial, or of an experiment with trials, the best of which is taken.
Expect the policy's metrics beside those of local only, then one decision.
"""

import sys

import numpy as np

from rllib_mec.evaluation import comparison_table, evaluate
from rllib_mec.policies import LocalOnly, load_policy

policy = load_policy(sys.argv[1])
episodes = int(sys.argv[2]) if len(sys.argv) > 2 else 200
others = [LocalOnly(policy.mdp), policy]
print(comparison_table([evaluate(each, episodes=episodes) for each in others]))

# Two states: full queues at half the largest distance, and one MD with a task left, near by.
num_devices = policy.scenario.num_devices
queues, distances = np.ones((2, num_devices)), np.full((2, num_devices), 0.5)
queues[1] = 0.0
queues[1, 0], distances[1] = 1 / policy.scenario.mean_tasks, 0.1
decided = policy.decide(np.concatenate([queues, distances], axis=1).astype(np.float32))
for name, values in decided.items():
    print(f"{name} of md_0: {np.round(values[:, 0], 2).tolist()}")
