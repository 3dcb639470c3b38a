"""EMH-PPO finds the queues where an MDP's ``observation_layout`` says they are."""

import dataclasses

import numpy as np
import pytest
import torch
from joint import make_runner
from ray.rllib.core import DEFAULT_MODULE_ID

import rllib_mec
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.envs import TaskWindowMDP
from rllib_mec.envs.observation import ObservationLayout
from rllib_mec.errors import MecError


@dataclasses.dataclass(frozen=True)
class QueuesLast(TaskWindowMDP):
    env_id = "queues_last_v0"

    @property
    def observation_layout(self):
        standard = super().observation_layout.sizes
        return ObservationLayout({name: standard[name] for name in ("distances", "queues")})

    def observe(self, state):
        queues, distances = np.split(super().observe(state), 2, axis=1)
        return np.concatenate([distances, queues], axis=1)


@dataclasses.dataclass(frozen=True)
class NoQueues(TaskWindowMDP):
    env_id = "no_queues_v0"

    @property
    def observation_layout(self):
        return ObservationLayout({"distances": self.scenario.num_devices})

    def observe(self, state):
        return super().observe(state)[:, self.scenario.num_devices :]


@pytest.fixture(autouse=True)
def registered():
    for mdp_class in (QueuesLast, NoQueues):
        rllib_mec.register_env(mdp_class)


def config(env_id):
    return (
        EMHPPOConfig()
        .environment(env_id, env_config={"num_devices": 3})
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=8, minibatch_size=8, num_epochs=1)
        .debugging(seed=1)
    )


def test_queues_that_come_last_are_compared_like_those_that_come_first():
    standard, last = (
        make_runner(config(env_id)).module[DEFAULT_MODULE_ID]
        for env_id in ("mec_task_window_v0", "queues_last_v0")
    )
    queues, distances = torch.tensor([[0.5, 0.2, 0.2]]), torch.tensor([[0.3, 0.9, 0.1]])
    first = standard.features(torch.cat([queues, distances], dim=1))
    second = last.features(torch.cat([distances, queues], dim=1))
    assert torch.equal(second[:, :6], torch.cat([distances, queues], dim=1))
    assert torch.equal(first[:, 6:], second[:, 6:])
    ranks = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]  # of equal queues, in their order
    assert second[0, 6:15].reshape(3, 3).tolist() == ranks


def test_without_queues_comparing_them_is_refused_in_one_line_and_all_else_works():
    with pytest.raises(MecError, match=r"compare_queues.*no_queues_v0 has \{'distances': 3\}"):
        config("no_queues_v0").validate()
    blind = config("no_queues_v0").rl_module(model_config={"compare_queues": False})
    blind.validate()
    assert sum(map(len, make_runner(blind).sample())) == 8
