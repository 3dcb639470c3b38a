"""What an MD does not have or cannot hold is never drawn, and costs no probability."""

import dataclasses

import numpy as np
import pytest
import torch
from joint import loss_of, make_learner, make_runner, small, train_batch
from ray.rllib.core.columns import Columns

from rllib_mec.algorithms.distributions import HybridActionDistribution, HybridActionLayout
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.emh_ppo.imitation import demonstrate, imitate
from rllib_mec.envs.masks import MASKS
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import Planner, PlannerBudget, load_policy
from rllib_mec.registry import ALGORITHMS

LIMITED = {
    "devices": [{"count": 1}, {"count": 1, "memory_mb": 5.0}, {"count": 1, "dnn": "mobilenet_v2"}],
    "partition": "vertical",
    "num_devices": None,
    "mean_tasks": 4,
}
MASK = "partition_mask"
LAYOUT = HybridActionLayout(
    num_devices=2, max_window=3, num_points=5, num_channels=2, num_servers=3, num_decisions=3
)


def masks(rng: torch.Generator) -> dict[str, torch.Tensor]:
    """Of each decision a mask for 16 worlds, never empty."""
    sizes = {"partition": 5, "channel": 2, "server": 3, "window": 3}
    found = {}
    for head, size in sizes.items():
        may = torch.rand((16, 2, size), generator=rng) < 0.5
        may[..., 0] |= ~may.any(-1)
        found[MASKS[head]] = may
    return found


def test_masked_choices_have_no_probability_and_the_others_all_of_it():
    rng = torch.Generator().manual_seed(0)
    inputs, batch = torch.randn((16, 2, LAYOUT.num_inputs), generator=rng), masks(rng)
    inputs.requires_grad_()
    dist = HybridActionDistribution(LAYOUT.masked(inputs, batch), LAYOUT)
    for _ in range(50):
        for actions in (dist.sample(generator=rng), dist.mode()):
            for head, column in MASKS.items():
                may = batch[column] if head == "window" else batch[column].unsqueeze(2)
                drawn = actions[head].unsqueeze(-1)
                assert may.expand(*drawn.shape[:-1], -1).gather(-1, drawn).all(), head
    # By hand: a softmax over what is left.
    logits = inputs[..., :5].masked_fill(~batch[MASK], -torch.inf).softmax(-1)
    entropy = -(logits * logits.clamp(min=1e-30).log()).sum(-1)
    torch.testing.assert_close(dist.entropies()["partition"][:, :, 0], entropy)
    actions = dist.sample(generator=rng)
    logp = dist.head_logp(actions)["partition"][:, :, 0]
    expected = logits.gather(-1, actions["partition"][:, :, :1]).squeeze(-1).log()
    torch.testing.assert_close(logp, expected)
    other = HybridActionDistribution(
        LAYOUT.masked(torch.randn(inputs.shape, generator=rng), batch), LAYOUT
    )
    total = dist.kl(other).sum() + dist.entropy().sum() + dist.logp(actions).sum()
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(inputs.grad).all()
    may = LAYOUT.masked(torch.zeros_like(inputs), batch) == 0.0
    assert (inputs.grad[~may] == 0).all()


def test_without_a_mask_nothing_is_changed_or_copied():
    inputs = torch.randn((4, 2, LAYOUT.num_inputs))
    assert LAYOUT.masked(inputs, {Columns.OBS: inputs}) is inputs
    runner = make_runner(small())
    batch = train_batch(runner, runner.sample(num_timesteps=16))
    assert not set(batch) & set(MASKS.values())


@pytest.mark.parametrize("name", ["EMH-PPO", "H-PPO", "MAHPPO", "MAPPO", "MAT"])
def test_the_learner_has_the_mask_that_was_drawn_by(name):
    config = small(type(ALGORITHMS.load(name).get_default_config()), **LIMITED)
    runner = make_runner(config)
    for random_actions in (False, True):
        episodes = runner.sample(num_timesteps=64, random_actions=random_actions)
        batch = train_batch(runner, episodes)
        may = batch[MASK]
        assert may.dtype == torch.bool and not may.all()
        chosen = batch["partition"].flatten(2)
        assert may.gather(-1, chosen).all()
        assert not (batch["partition"] == 0).all()
    batch = train_batch(runner, runner.sample(num_timesteps=64))
    learner = make_learner(config, runner)
    loss = loss_of(learner, batch)
    assert torch.isfinite(loss)
    # Nothing has been learned yet: the ratios are 1, as the mask is the same on both sides.
    module = learner.module["default_policy"].unwrapped()
    inputs = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    logp = HybridActionDistribution(inputs, module.layout).head_logp(batch)["partition"]
    torch.testing.assert_close(logp, batch["task_logp"][..., 0], rtol=1e-4, atol=1e-5)


def test_connectors_and_filters_leave_the_masks_alone():
    config = small(EMHPPOConfig, **LIMITED)
    config.env_runners(observation_filter="MeanStdFilter")
    config.rl_module(model_config={"compare_queues": False})
    config.training(use_kl_loss=True)
    runner = make_runner(config)
    batch = train_batch(runner, runner.sample(num_timesteps=64))
    assert batch[MASK].dtype == torch.bool
    assert batch[MASK].gather(-1, batch["partition"].flatten(2)).all()
    assert torch.isfinite(loss_of(make_learner(config, runner), batch))


def test_imitation_and_counterfactuals_stay_within_the_mask():
    scenario = Scenario.from_dict({**LIMITED, "max_window": 2})
    budget = PlannerBudget(refined=1, rounds=2, proposals=2, samples=8, final_samples=8)
    config = small(EMHPPOConfig, **LIMITED, max_window=2).training(counterfactuals=1)
    batch = demonstrate(Planner(scenario, budget=budget), 32, config)
    may = np.take_along_axis(batch[MASK], batch["partition"].reshape(len(batch[MASK]), 3, -1), 2)
    assert may.all()
    runner = make_runner(config)
    module = runner.module["default_policy"]
    assert np.isfinite(imitate(module, batch, num_epochs=1, seed=0))
    learned = train_batch(runner, runner.sample(num_timesteps=32))
    assert torch.isfinite(learned["credit"]).all()


@pytest.mark.slow
def test_a_checkpoint_decides_within_the_mask(ray_session, tmp_path):
    algorithm = small(EMHPPOConfig, **LIMITED).build_algo()
    try:
        algorithm.train()
        algorithm.save_to_path(tmp_path)
    finally:
        algorithm.stop()
    policy = load_policy(str(tmp_path))
    # A module that wants full local for all: what is masked, it does not get.
    with torch.no_grad():
        policy.module.agent_heads.bias.zero_()
        points = policy.module.layout.num_points
        bias = policy.module.agent_heads.bias[..., : -policy.module.layout.max_window]
        bias.unflatten(-1, (policy.module.layout.num_decisions, -1))[..., points - 1] = 99.0
    partition = policy.decide(policy.mdp.make(16).observation())["partition"]
    playable = policy.scenario.playable
    assert (playable[np.arange(3)[:, None], partition] == partition).all()
    assert evaluate(policy, episodes=4)["reward"].mean < 0


def test_a_users_mask_by_the_state_reaches_the_module():
    from rllib_mec.envs.masks import action_mask
    from rllib_mec.envs.task_window import TaskWindowMDP

    @dataclasses.dataclass(frozen=True)
    class OneDown(TaskWindowMDP):
        masked_heads = ("server",)

        def action_mask(self, state):
            mask = action_mask(state, self.scenario)
            mask["server"][..., 1] = state.queues % 2 == 0
            return mask

    runner = make_runner(small())
    runner.mdp = OneDown(runner.scenario)
    runner.env.mdp = runner.mdp
    batch = train_batch(runner, runner.sample(num_timesteps=64))
    odd = torch.round(batch[Columns.OBS][:, :2] * 6).to(torch.int64) % 2 == 1
    assert (batch["server"][odd] == 0).all() and (batch["server"] == 1).any()


@pytest.mark.slow
def test_rllib_s_masking_module_never_takes_what_is_masked(ray_session, tmp_path):
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module import RLModuleSpec
    from ray.rllib.examples.rl_modules.classes.action_masking_rlm import (
        ActionMaskingTorchRLModule,
    )

    from rllib_mec.algorithms.multi_agent_env import one_policy_for_all

    view = {"actions": "flat", "observe_mask": True, "power_levels": 3}
    config = (
        PPOConfig()
        .environment("mec_task_window_v0", env_config={**LIMITED, **view})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .multi_agent(policies={"shared"}, policy_mapping_fn=one_policy_for_all)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=ActionMaskingTorchRLModule))
        .training(train_batch_size_per_learner=128, minibatch_size=64, num_epochs=1)
    )
    algorithm = config.build_algo()
    try:
        assert np.isfinite(algorithm.train()["env_runners"]["num_env_steps_sampled"])
        algorithm.save_to_path(tmp_path)
    finally:
        algorithm.stop()
    policy = load_policy(str(tmp_path))
    worlds = policy.mdp.make(16)
    actions = policy.decide(worlds.observation())
    masks = policy.mdp.action_mask(worlds.state)
    for name in ("partition", "channel", "server"):
        own = masks[name]
        assert np.take_along_axis(own, actions[name], axis=2).all()
