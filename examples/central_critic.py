"""MAPPO on our environment: each MD acts on what it sees itself, one critic sees `env.state()`.

The first 2N numbers of an observation are the global state, so that the critic needs no more.

    python examples/central_critic.py 20     # iterations, a minute. Expect the return to rise.
"""

import sys

import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchMultiCategorical
from ray.rllib.core.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule

import rllib_mec  # noqa: F401 - registers the environments
from rllib_mec.algorithms.multi_agent_env import one_policy_for_all

NUM_DEVICES = 3


class CentralCritic(TorchRLModule, ValueFunctionAPI):
    """An actor on the MD's own queue and distance, and a critic on those of all."""

    def setup(self):
        """Make both networks."""
        choices = self.action_space.nvec.tolist()
        self.action_dist_cls = TorchMultiCategorical.get_partial_dist_cls(input_lens=choices)
        layers = torch.nn.Linear(2, 64), torch.nn.Tanh(), torch.nn.Linear(64, sum(choices))
        self.actor = torch.nn.Sequential(*layers)
        layers = torch.nn.Linear(2 * NUM_DEVICES, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1)
        self.critic = torch.nn.Sequential(*layers)

    def _forward(self, batch, **kwargs):
        queues, distances, own = batch[Columns.OBS].split(NUM_DEVICES, dim=-1)
        seen = torch.stack([(queues * own).sum(-1), (distances * own).sum(-1)], dim=-1)
        return {Columns.ACTION_DIST_INPUTS: self.actor(seen)}

    def compute_values(self, batch, embeddings=None):
        """The value of the global state."""
        return self.critic(batch[Columns.OBS][..., : 2 * NUM_DEVICES]).squeeze(-1)


config = (
    PPOConfig()
    .environment("mec_task_window_v0", env_config={"num_devices": NUM_DEVICES, "actions": "flat"})
    .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
    .multi_agent(policies={"shared"}, policy_mapping_fn=one_policy_for_all)
    .rl_module(rl_module_spec=RLModuleSpec(module_class=CentralCritic))
    .training(train_batch_size_per_learner=2048, minibatch_size=512, num_epochs=4)
)
algorithm = config.build_algo()
for iteration in range(int(sys.argv[1])):
    result = algorithm.train()
    print(iteration, "return", round(result["env_runners"]["episode_return_mean"], 1))
algorithm.stop()
