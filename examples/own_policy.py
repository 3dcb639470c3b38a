"""A policy of your own beside the planner.

    python examples/own_policy.py
    rllib-mec compare --policies examples.own_policy:CutByQueue,planner --scenario num_devices=2

Expect a table that says how many times the planner's reward, latency and energy it has.
"""

import numpy as np

import rllib_mec
from rllib_mec.evaluation import comparison_table, evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import Policy
from rllib_mec.registry import make_policy


class CutByQueue(Policy):
    """MDs with more tasks than the mean send the input, the others work locally."""

    name = "cut by queue"

    def decide(self, observation):
        """Decide one task window in each of B worlds; see the base class."""
        scenario = self.scenario
        queues = self.mdp.decode(observation).queues
        is_long = queues >= queues.mean(axis=1, keepdims=True)
        point = np.where(is_long, 0, scenario.table.num_points - 1)
        shape = (*queues.shape, scenario.max_window)
        device = np.arange(scenario.num_devices)[:, None]
        return {
            "partition": np.broadcast_to(point[..., None], shape),
            "channel": np.broadcast_to(device % scenario.num_channels, shape),
            "server": np.broadcast_to(device % scenario.num_servers, shape),
            "power": np.full(shape, 0.4),  # 12 dBm of 30
            "window": np.full(queues.shape, scenario.max_window - 1),
        }


if __name__ == "__main__":
    rllib_mec.register_policy("cut-by-queue", CutByQueue)
    scenario = Scenario(num_devices=2)
    policies = [make_policy(name, scenario) for name in ("local-only", "cut-by-queue", "planner")]
    print(comparison_table([evaluate(policy, episodes=50) for policy in policies]))
