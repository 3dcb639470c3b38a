import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from rllib_mec.algorithms.columns import HEAD_LOGP, PLAYED, WINDOW_ADVANTAGES
from rllib_mec.algorithms.distributions import TASK_HEADS, HybridActionDistribution
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.env_runner import TaskWindowEnvRunner
from rllib_mec.algorithms.joint_ppo.train_batch import make_train_batch


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
    return TaskWindowEnvRunner(config=config, worker_index=0, num_workers=0)


@pytest.fixture
def learner(config, runner):
    learner = config.build_learner(spaces=runner.get_spaces())
    learner.module.set_state(runner.module.get_state())
    return learner


def _loss(learner, batch):
    module = learner.module[DEFAULT_MODULE_ID]
    tensors = {k: torch.from_numpy(v) for k, v in batch[DEFAULT_MODULE_ID].items()}
    fwd_out = module.forward_train(tensors)
    return learner.compute_loss_for_module(
        module_id=DEFAULT_MODULE_ID, config=learner.config, batch=tensors, fwd_out=fwd_out
    )


def test_before_any_update_the_loss_is_minus_the_played_advantages_and_the_value_error(
    learner, runner
):
    batch = make_train_batch(runner.sample(), per_task_advantages=True)
    data = batch[DEFAULT_MODULE_ID]
    values = learner.module[DEFAULT_MODULE_ID].compute_values(
        {Columns.OBS: torch.from_numpy(data[Columns.OBS])}
    )
    played = data[PLAYED]
    policy = -(played * data[Columns.ADVANTAGES][:, None]).sum((1, 2)).mean() / played.shape[-1]
    window = -(played[..., 0] * data[WINDOW_ADVANTAGES][:, None]).sum(1).mean()
    error = values.detach().numpy() - data[Columns.VALUE_TARGETS]
    expected = policy + window + learner.config.vf_loss_coeff * 0.5 * np.square(error).mean()
    assert _loss(learner, batch).item() == pytest.approx(expected, rel=1e-4)


def test_slots_that_were_not_played_have_no_gradient(learner, runner):
    batch = make_train_batch(runner.sample(), per_task_advantages=True)
    data = batch[DEFAULT_MODULE_ID]
    data[PLAYED] = np.zeros_like(data[PLAYED])
    _loss(learner, batch).backward()
    module = learner.module[DEFAULT_MODULE_ID]
    assert all(p.grad is None or not p.grad.any() for p in module.agent_layers.parameters())
    assert any(p.grad.any() for p in module.critic.parameters())


def test_clipping_stops_the_gradient_of_a_ratio_that_has_gone_far_enough(learner, runner):
    batch = make_train_batch(runner.sample(), per_task_advantages=False)
    data = batch[DEFAULT_MODULE_ID]
    data[Columns.ADVANTAGES] = np.ones_like(data[Columns.ADVANTAGES])
    data[WINDOW_ADVANTAGES] = np.ones_like(data[WINDOW_ADVANTAGES])
    # As if the new policy were already e times as likely to do all this.
    for head in ("partition", "window"):
        data[HEAD_LOGP[head]] = data[HEAD_LOGP[head]] - 1.0
    _loss(learner, batch).backward()
    module = learner.module[DEFAULT_MODULE_ID]
    assert not any(p.grad.any() for p in module.agent_layers.parameters())


def test_updates_raise_the_probability_of_what_turned_out_well(learner, runner):
    batch = make_train_batch(runner.sample(), per_task_advantages=True)
    data = batch[DEFAULT_MODULE_ID]
    good = (np.arange(len(data[WINDOW_ADVANTAGES])) % 2 * 2 - 1).astype(np.float32)
    data[WINDOW_ADVANTAGES] = good
    data[Columns.ADVANTAGES] = np.repeat(good[:, None], 5, axis=1)
    tensors = {k: torch.from_numpy(v) for k, v in data.items()}
    module = learner.module[DEFAULT_MODULE_ID]

    def logp():
        with torch.no_grad():
            inputs = module.forward_train(tensors)[Columns.ACTION_DIST_INPUTS]
        logp = HybridActionDistribution(inputs, module.layout).head_logp(tensors)
        return sum((logp[h] * tensors[PLAYED]).sum((1, 2)) for h in TASK_HEADS).numpy()

    before = logp()
    for _ in range(10):
        learner.update(batch=MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(data)}, 32))
    change = logp() - before
    assert change[good > 0].mean() > change[good < 0].mean()


def test_advantages_are_standardised_over_all_runners_and_cut_to_whole_learners(runner):
    batches = [*runner.sample(), *runner.sample(), *runner.sample(num_timesteps=4)]
    batch = make_train_batch(batches, per_task_advantages=True, num_learners=5)
    data = batch[DEFAULT_MODULE_ID]
    assert batch.env_steps() == 65 and len(data[WINDOW_ADVANTAGES]) == 65
    full = make_train_batch(batches, per_task_advantages=False)[DEFAULT_MODULE_ID]
    assert full[WINDOW_ADVANTAGES].mean() == pytest.approx(0, abs=1e-5)
    assert full[WINDOW_ADVANTAGES].std() == pytest.approx(1, abs=1e-4)
    np.testing.assert_array_equal(full[Columns.ADVANTAGES][:, 3], full[WINDOW_ADVANTAGES])


def test_restoring_an_older_state_brings_back_its_weights(learner, runner):
    old = learner.get_state()
    learner.update(batch=make_train_batch(runner.sample(), per_task_advantages=True))
    learner.update(batch=make_train_batch(runner.sample(), per_task_advantages=True))
    learner.set_state(old)
    new = learner.get_state()
    for name, value in old["rl_module"][DEFAULT_MODULE_ID].items():
        np.testing.assert_array_equal(value, new["rl_module"][DEFAULT_MODULE_ID][name])


def test_the_module_separates_devices_and_names_a_misspelt_model_key(config, runner):
    module = runner.module[DEFAULT_MODULE_ID]
    outputs = module.forward_inference({Columns.OBS: torch.zeros(3, 4)})
    assert outputs[Columns.ACTION_DIST_INPUTS].shape == (3, 2, module.layout.num_inputs)
    assert set(runner.get_spaces()) == {INPUT_ENV_SPACES, DEFAULT_MODULE_ID}
    from rllib_mec.errors import MecError

    with pytest.raises(MecError, match=r"agent_hidden'.*did you mean 'agent_hiddens'"):
        config.rl_module(model_config={"agent_hidden": [8]}).validate()
