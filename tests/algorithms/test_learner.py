import numpy as np
import pytest
import torch
from joint import loss_of, make_learner, make_runner, train_batch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES

from rllib_mec.algorithms.columns import PLAYED, TASK_LOGP, WINDOW_ADVANTAGES, WINDOW_LOGP
from rllib_mec.algorithms.distributions import TASK_HEADS, HybridActionDistribution
from rllib_mec.algorithms.diverged import TrainingDiverged
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.errors import MecError

UPDATE = {"num_epochs": 1, "minibatch_size": 16}


@pytest.fixture
def config():
    return (
        EMHPPOConfig()
        .environment("mec_task_window_v0", env_config={"num_devices": 2})
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=32, minibatch_size=16, num_epochs=1, entropy_coeff=0)
        .debugging(seed=1)
    )


@pytest.fixture
def runner(config):
    return make_runner(config)


@pytest.fixture
def learner(config, runner):
    return make_learner(config, runner)


def test_before_any_update_the_loss_is_minus_the_played_advantages_and_the_value_error(
    learner, runner
):
    data = train_batch(runner, runner.sample())
    values = learner.module[DEFAULT_MODULE_ID].compute_values(data).detach()
    played = data[PLAYED]
    policy = -(played * data[Columns.ADVANTAGES][:, None]).sum((1, 2)).mean() / played.shape[-1]
    window = -(played[..., 0] * data[WINDOW_ADVANTAGES][:, None]).sum(1).mean()
    error = (values - data[Columns.VALUE_TARGETS]).square().mean()
    expected = policy + window + learner.config.vf_loss_coeff * 0.5 * error
    assert loss_of(learner, data).item() == pytest.approx(expected.item(), rel=1e-4)


def test_slots_that_were_not_played_have_no_gradient(learner, runner):
    data = train_batch(runner, runner.sample())
    data[PLAYED] = torch.zeros_like(data[PLAYED])
    loss_of(learner, data).backward()
    module = learner.module[DEFAULT_MODULE_ID]
    assert all(p.grad is None or not p.grad.any() for p in module.agent_layers.parameters())
    assert any(p.grad.any() for p in module.critic.parameters())


def test_clipping_stops_the_gradient_of_a_ratio_that_has_gone_far_enough(learner, runner):
    data = train_batch(runner, runner.sample())
    data[Columns.ADVANTAGES] = torch.ones_like(data[Columns.ADVANTAGES])
    data[WINDOW_ADVANTAGES] = torch.ones_like(data[WINDOW_ADVANTAGES])
    # As if the new policy were already e times as likely to do all this.
    data[TASK_LOGP][..., TASK_HEADS.index("partition")] -= 1.0
    data[WINDOW_LOGP] -= 1.0
    loss_of(learner, data).backward()
    module = learner.module[DEFAULT_MODULE_ID]
    assert not any(p.grad.any() for p in module.agent_layers.parameters())


def test_updates_raise_the_probability_of_what_turned_out_well(config):
    runner = make_runner(config.training(gamma=0.0))
    learner = make_learner(config, runner)
    episodes = runner.sample()
    good = np.concatenate([np.arange(len(e)) % 2 * 2.0 - 1.0 for e in episodes])
    start = 0
    for episode in episodes:
        rewards = good[start : start + len(episode)]
        episode.rewards.data = rewards
        shares = episode.extra_model_outputs["task_rewards"].data
        episode.extra_model_outputs["task_rewards"].data = (
            np.ones_like(shares) * rewards[:, None] / shares.shape[1]
        )
        start += len(episode)
    data = train_batch(runner, episodes)
    module = learner.module[DEFAULT_MODULE_ID]
    better = data[WINDOW_ADVANTAGES].numpy() > 0

    def logp():
        with torch.no_grad():
            inputs = module.forward_train(data)[Columns.ACTION_DIST_INPUTS]
        logp = HybridActionDistribution(inputs, module.layout).head_logp(data)
        return sum((logp[h] * data[PLAYED]).sum((1, 2)) for h in TASK_HEADS).numpy()

    before = logp()
    for _ in range(10):
        learner.update(episodes=episodes, **UPDATE)
    change = logp() - before
    assert change[better].mean() > change[~better].mean()


def test_advantages_are_standardised_over_the_batch(config, runner):
    episodes = [*runner.sample(), *runner.sample(), *runner.sample(num_timesteps=4)]
    assert sum(map(len, episodes)) == 68
    data = train_batch(runner, episodes)
    for name in (WINDOW_ADVANTAGES, Columns.ADVANTAGES):
        assert data[name].shape[0] == 68
        assert data[name].mean(0).numpy() == pytest.approx(0, abs=1e-5)
        assert data[name].std(0, correction=0).numpy() == pytest.approx(1, abs=1e-3)
    config.training(per_task_advantages=False)
    whole = train_batch(runner, episodes, config.build_learner_connector(None, None))
    torch.testing.assert_close(whole[Columns.ADVANTAGES][:, 3], whole[WINDOW_ADVANTAGES])


def test_restoring_an_older_state_brings_back_its_weights(learner, runner):
    old = learner.get_state()
    for _ in range(2):
        learner.update(episodes=runner.sample(), **UPDATE)
    learner.set_state(old)
    new = learner.get_state()
    for name, value in old["rl_module"][DEFAULT_MODULE_ID].items():
        np.testing.assert_array_equal(value, new["rl_module"][DEFAULT_MODULE_ID][name])


def test_a_state_holds_the_kl_coefficient_and_the_running_mean_of_the_rewards(config):
    config.training(use_kl_loss=True, kl_coeff=3.0, kl_target=1e3, average_reward=True)
    runner = make_runner(config)
    learner, other = make_learner(config, runner), make_learner(config, runner)
    learner.update(episodes=runner.sample(), **UPDATE)
    state = learner.get_state()
    # A divergence far below its target halves the coefficient.
    assert state["kl_coeffs"] == {DEFAULT_MODULE_ID: 1.5}
    assert state["learner_connector"]["PerTaskAdvantages"]["average_shares"][0] < 0
    other.set_state(state)
    assert other.get_state()["kl_coeffs"] == state["kl_coeffs"]
    assert other.get_state()["learner_connector"] == state["learner_connector"]


def test_the_kl_divergence_is_penalised(config):
    config.training(use_kl_loss=True, kl_coeff=2.0)
    runner = make_runner(config)
    learner = make_learner(config, runner)
    data = train_batch(runner, runner.sample())
    same = loss_of(learner, data)
    module = learner.module[DEFAULT_MODULE_ID]
    # Had the old policy had twice the odds of each window size against the first one:
    # all of the loss but the divergence is the same.
    data[Columns.ACTION_DIST_INPUTS] = data[Columns.ACTION_DIST_INPUTS].clone()
    window = data[Columns.ACTION_DIST_INPUTS][..., -module.layout.max_window :]
    window[..., 1:] += np.log(2.0)
    old = window.softmax(-1)
    new = window.clone()
    new[..., 1:] -= np.log(2.0)
    kl = (old * (old.log() - new.log_softmax(-1))).sum(-1)
    active = data[PLAYED][..., 0]
    expected = 2.0 * (kl * active).sum() / active.sum()
    assert (loss_of(learner, data) - same).item() == pytest.approx(expected.item(), rel=1e-3)


def test_a_clipped_value_error_has_no_gradient(config):
    config.training(vf_clip_param=1e-9)
    runner = make_runner(config)
    learner = make_learner(config, runner)
    loss_of(learner, train_batch(runner, runner.sample())).backward()
    assert not any(p.grad.any() for p in learner.module[DEFAULT_MODULE_ID].critic.parameters())


def test_without_a_critic_advantages_are_returns_and_nothing_trains_it(config):
    config.training(use_critic=False, gamma=0.5)
    config.env_runners(batch_mode="complete_episodes")
    runner = make_runner(config)
    learner = make_learner(config, runner)
    episodes = runner.sample()
    assert len(episodes) == 4 and all(episode.is_terminated for episode in episodes)
    data = train_batch(runner, episodes)
    rewards = [
        episode.extra_model_outputs["task_rewards"].data / config.reward_scale
        for episode in episodes
    ]
    returns = np.zeros_like(rewards[0][0])
    for reward in rewards[0][::-1]:
        returns = reward + 0.5 * returns
    np.testing.assert_allclose(data[Columns.VALUE_TARGETS][0], returns, rtol=1e-5)
    loss_of(learner, data).backward()
    critic = learner.module[DEFAULT_MODULE_ID].critic
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_weights_that_are_not_finite_are_reported_as_divergence(config):
    runner = make_runner(config.training(lr=1e38))
    learner = make_learner(config, runner)
    with pytest.raises(TrainingDiverged, match="training diverged at iteration 1"):
        learner.update(episodes=runner.sample(), **UPDATE)


def test_a_policy_whose_outputs_are_not_finite_is_reported_as_divergence(runner):
    module = runner.module[DEFAULT_MODULE_ID]
    with torch.no_grad():
        module.agent_heads.bias.fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="training diverged at iteration 0"):
        runner.sample()


def test_the_module_separates_devices_and_names_a_misspelt_model_key(config, runner):
    module = runner.module[DEFAULT_MODULE_ID]
    outputs = module.forward_inference({Columns.OBS: torch.zeros(3, 4)})
    assert outputs[Columns.ACTION_DIST_INPUTS].shape == (3, 2, module.layout.num_inputs)
    assert set(runner.get_spaces()) == {
        INPUT_ENV_SPACES,
        INPUT_ENV_SINGLE_SPACES,
        DEFAULT_MODULE_ID,
    }
    with pytest.raises(MecError, match=r"agent_hidden'.*did you mean 'agent_hiddens'"):
        config.rl_module(model_config={"agent_hidden": [8]}).validate()
