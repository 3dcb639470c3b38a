"""EMH-PPO's networks that are functions of sets: what they do not depend on, and where they go."""

import dataclasses

import numpy as np
import pytest
import torch
from joint import loss_of, make_learner, make_runner, most_likely, small, train_batch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

import rllib_mec
from rllib_mec.algorithms.agile_nn import AgileNNConfig
from rllib_mec.algorithms.distributions import HybridActionLayout
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig, EMHPPORLModule, SetRLModule
from rllib_mec.algorithms.emh_ppo.imitation import demonstrate, imitate
from rllib_mec.algorithms.emh_ppo.set_features import own_parts
from rllib_mec.envs import TaskWindowMDP, laws
from rllib_mec.envs.observation import State, state_space
from rllib_mec.errors import MecError
from rllib_mec.evaluation import evaluate
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import load_policy
from rllib_mec.policies.checkpoint import JointModulePolicy
from rllib_mec.policies.policy import Policy
from rllib_mec.registry import make_mdp

SET = {"model": "set", "width": 16, "num_layers": 1, "num_heads": 2, "critic_hidden": 16}
UNLIKE = {
    "devices": [
        {"count": 1, "mean_tasks": 8},
        {"count": 2, "dnn": "mobilenet_v2", "local_slowdown": 9.0, "mean_tasks": 4},
    ],
    "servers": [{"count": 1}, {"count": 1, "speed": 2.0, "latency_ms": 2.0}],
    "channels": [{"count": 1}, {"count": 1, "bandwidth_hz": 5e6}],
}
STREAM = {
    "num_devices": 2, "arrivals": "bursts", "horizon_ms": 500, "outages": "random",
    "device_down_ms": 100.0,
}  # fmt: skip
PLACES = [
    ("mec_task_window_v0", {"num_devices": 1, "num_servers": 1, "num_channels": 1}),
    ("mec_task_window_v0", {"num_devices": 5, "num_servers": 4, "num_channels": 3}),
    ("mec_task_window_v0", {"num_devices": 30, "dnn": "mobilenet_v2", "max_window": 2}),
    ("mec_task_window_v0", {"partition": "vertical", "profile": "si", "max_window": 9}),
    ("mec_task_window_v0", UNLIKE),
    ("mec_task_window_v0", {"devices": [{"count": 1}, {"count": 2, "memory_mb": 30.0}]}),
    ("mec_task_window_v0", {"path_loss": "uma", "noise_w": 1e-13, "distance_range_m": (30, 300)}),
    ("mec_time_slot_v0", {"num_devices": 2, "observe_progress": True}),
    ("mec_task_stream_v0", STREAM),
]


def config(env="mec_task_window_v0", config_class=EMHPPOConfig, **env_config):
    own = small(config_class).environment(env).rl_module(model_config=SET)
    shared = own.env_config.get("remote_feature_share", 1.0)
    own.env_config = {**env_config, "remote_feature_share": shared}  # `environment` would merge
    return own


def module_for(mdp, seed=0):
    torch.manual_seed(seed)
    scenario = mdp.scenario
    layout = HybridActionLayout(
        num_devices=scenario.num_devices,
        max_window=scenario.max_window,
        num_points=scenario.num_points,
        num_channels=scenario.num_channels,
        num_servers=scenario.num_servers,
        num_decisions=scenario.max_window,
    )
    module = SetRLModule(
        observation_space=state_space(laws.size_of(mdp)),
        action_space=layout.joint_space(),
        model_config={**SET, "mdp": mdp, "parts": own_parts(mdp)},
    )
    with torch.no_grad():  # away from the start, at which all decisions are near uniform
        module.actor.heads.weight.normal_()
    return module


def outputs(module, observation):
    observation = torch.as_tensor(observation, dtype=torch.float32)
    with torch.no_grad():
        return module.forward_inference({"obs": observation})["action_dist_inputs"]


def test_devices_change_places_and_so_do_the_decisions():
    order = [2, 0, 3, 1]
    slowdowns = [3.0, 5.0, 7.0, 4.0]
    queues, distances = np.array([[40, 41, 7, 1]]), np.array([[10.0, 80.0, 45.0, 50.0]])
    found, values = [], []
    for permuted in (range(4), order):
        permuted = list(permuted)
        devices = [{"count": 1, "local_slowdown": slowdowns[n]} for n in permuted]
        mdp = TaskWindowMDP(Scenario(devices=devices))
        observation = laws.observed(mdp, State(queues[:, permuted], distances[:, permuted]))
        module = module_for(mdp)
        found.append(outputs(module, observation)[0])
        values.append(module.compute_values({"obs": torch.from_numpy(observation)}))
    torch.testing.assert_close(found[1], found[0][order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(values[1], values[0], atol=1e-5, rtol=1e-4)
    assert (found[0][0] - found[0][1]).abs().max() > 0.1


@pytest.mark.parametrize(("env", "env_config"), PLACES)
def test_the_same_weights_decide_anywhere(env, env_config):
    trained = module_for(TaskWindowMDP(Scenario()))
    mdp = make_mdp(env, env_config)
    assert own_parts(mdp) == {}  # of what is ours, all is known
    module = trained.on(mdp)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (trained, module)]
    assert shapes[0] == shapes[1] == {k: v.shape for k, v in module_for(mdp).state_dict().items()}
    worlds = mdp.make(4, seed=1)
    with torch.no_grad():
        seen = module.features(torch.from_numpy(worlds.observation()))
    assert seen.abs().max() < 20.0
    inputs = outputs(module, worlds.observation())
    dist = module.get_exploration_action_dist_cls().from_logits(inputs)
    worlds.step(module.layout.playable(dist.sample()))  # refuses what is out of range
    values = module.compute_values({"obs": torch.from_numpy(worlds.observation())})
    assert values.shape == (4, mdp.scenario.max_window)
    assert torch.isfinite(values).all()


def test_one_task_more_changes_what_is_decided():
    mdp = TaskWindowMDP(Scenario())
    module = module_for(mdp)
    states = [State(np.array([[50, 50, n]]), np.full((1, 3), 50.0)) for n in (49, 50)]
    before, after = (outputs(module, laws.observed(mdp, state)) for state in states)
    assert (before - after).abs().max() > 0.05


def test_equal_servers_and_channels_are_told_apart_and_those_that_differ_by_what_they_are():
    equal = TaskWindowMDP(Scenario(num_devices=4, num_servers=3, num_channels=2))
    worlds = equal.make(1, seed=0)
    dist = module_for(equal).get_inference_action_dist_cls()
    logits = dist.from_logits(outputs(module_for(equal), worlds.observation()))._log_probs
    assert logits["server"].std(-1).min() > 1e-3 and logits["channel"].std(-1).min() > 1e-3
    faster = TaskWindowMDP(
        Scenario(num_devices=4, servers=[{"count": 2}, {"count": 1, "speed": 3.0}])
    )
    changed = dist.from_logits(outputs(module_for(equal).on(faster), worlds.observation()))
    assert (changed._log_probs["server"] - logits["server"]).abs().max() > 1e-2


@pytest.mark.parametrize("env_config", [{}, UNLIKE])
def test_gradients_reach_every_weight(env_config):
    own = config(**{"mean_tasks": 6, **env_config})
    runner = make_runner(own)
    learner = make_learner(own, runner)
    module = learner.module[DEFAULT_MODULE_ID]
    with torch.no_grad():
        module.actor.heads.weight.normal_(std=0.3)
    runner.module[DEFAULT_MODULE_ID].set_state(module.get_state())
    loss_of(learner, train_batch(runner, runner.sample())).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


class Dealing(Policy):
    """Deals servers to MDs in the order of their queues, and channels along their tasks too.

    It is local at the shortest queue, which does one task.
    """

    def decide(self, observation):
        queues = laws.decoded(self.mdp, observation).queues
        rank = np.argsort(np.argsort(-queues, axis=1, kind="stable"), axis=1)
        actions = self._same_for_all(observation, partition=0, power=0.4)
        last = rank == queues.shape[1] - 1
        slot = np.arange(self.scenario.max_window)
        actions["server"][:] = rank[..., None] % self.scenario.num_servers
        actions["channel"][:] = (rank[..., None] + slot) % self.scenario.num_channels
        actions["partition"][last] = self.scenario.full_local
        actions["window"][last] = 0
        return actions


def test_shared_work_is_learned_and_carries_over_to_another_number():
    def wrong(mdp, module):
        seen = mdp.make(256, seed=7).observation()
        teacher, own = Dealing(mdp).decide(seen), JointModulePolicy("", mdp, module).decide(seen)
        return {head: float((teacher[head] != own[head]).mean()) for head in teacher}

    mdp = TaskWindowMDP(Scenario(num_devices=5, num_servers=3, mean_tasks=8))
    own = config(num_devices=5, num_servers=3, mean_tasks=8)
    own.rl_module(model_config={**SET, "width": 32})
    module = make_runner(own).module[DEFAULT_MODULE_ID]
    imitate(module, demonstrate(Dealing(mdp), 2000, own), num_epochs=16, seed=0)
    here = wrong(mdp, module)
    assert max(here[head] for head in ("partition", "channel", "server", "window")) < 0.03
    for num_devices, num_servers in ((7, 4), (12, 2)):
        more = mdp.scenario.replace(num_devices=num_devices, num_servers=num_servers)
        there = wrong(TaskWindowMDP(more), module.on(TaskWindowMDP(more)))
        assert max(there[head] for head in ("channel", "server")) < 0.02
        assert max(there[head] for head in ("partition", "window")) < 0.1


def test_a_users_part_goes_where_its_name_or_its_size_says():
    @dataclasses.dataclass(frozen=True)
    class Weather(TaskWindowMDP):
        env_id = "weather_v0"

        @property
        def observation_layout(self):
            n = self.scenario.num_devices
            return super().observation_layout.plus(heat=2 * n, server_heat=2, wind=1, device_age=n)

        def observe(self, state):
            seen = super().observe(state)
            n = self.scenario.num_devices
            return np.concatenate([seen, np.ones((len(seen), 3 * n + 3), np.float32)], axis=1)

    rllib_mec.register_env(Weather)
    mdp = make_mdp("weather_v0", {"num_devices": 3})
    assert own_parts(mdp) == {
        "heat": ("devices", 2), "server_heat": ("servers", 1), "wind": ("world", 1),
        "device_age": ("devices", 1),
    }  # fmt: skip
    module = module_for(mdp)
    elsewhere = module.on(make_mdp("weather_v0", {"num_devices": 5}))
    assert outputs(elsewhere, elsewhere.model_config["mdp"].make(2).observation()).shape[1] == 5
    plain = TaskWindowMDP(Scenario())
    assert outputs(module.on(plain), plain.make(2).observation()).shape[1] == 3  # they are 0 there
    with pytest.raises(MecError, match="no inputs for part 'heat' of the observation: expected"):
        module_for(plain).on(mdp)
    config("weather_v0").validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.rl_module(model_config={"model": "sets"}),
            "model_config: unknown model 'sets': did you mean 'set'",
        ),
        (lambda c: c.rl_module(model_config={**SET, "width": 15}), "width must be a multiple of"),
        (lambda c: c.rl_module(model_config={**SET, "with": 8}), "did you mean 'width'"),
        (lambda c: c.rl_module(model_config={**SET, "compare_queues": True}), "unknown model_con"),
        (lambda c: c.rl_module(model_config={"width": 8}), "unknown model_config key 'width'"),
        (
            lambda c: c.env_runners(observation_filter="MeanStdFilter"),
            "model in model_config must be 'paper' with an observation_filter",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(change, message):
    with pytest.raises(MecError, match=message) as error:
        change(config()).validate()
    assert "\n" not in str(error.value)


def test_the_networks_may_be_named_in_a_spec_too():
    for spec in (RLModuleSpec(module_class=SetRLModule), RLModuleSpec(model_config=SET)):
        own = small().rl_module(rl_module_spec=spec)
        own.validate()
        assert isinstance(make_runner(own).module[DEFAULT_MODULE_ID], SetRLModule)
    papers = RLModuleSpec(module_class=EMHPPORLModule, model_config={"model": "set"})
    with pytest.raises(MecError, match="model in model_config must be 'paper' for EMHPPORLModule"):
        make_runner(small().rl_module(rl_module_spec=papers))


@pytest.fixture(scope="module")
def trained(ray_session, tmp_path_factory):
    """A checkpoint after one iteration, and what its algorithm then does."""
    own = config(num_devices=2, mean_tasks=6).training(counterfactuals=1)
    algorithm = own.build_algo()
    algorithm.train()
    path = algorithm.save_to_path(tmp_path_factory.mktemp("set") / "checkpoint")
    observation = np.random.default_rng(0).random((16, 4), dtype=np.float32)
    played = most_likely(algorithm.env_runner, observation)
    weights = algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]
    algorithm.stop()
    return path, observation, played, weights


def test_saved_restored_and_as_a_policy_it_acts_the_same(trained):
    path, observation, played, weights = trained
    restored = Algorithm.from_checkpoint(path)
    try:
        again = restored.learner_group.get_weights()[DEFAULT_MODULE_ID]
        assert weights.keys() == again.keys()
        for acted in (
            most_likely(restored.env_runner, observation),
            load_policy(path).decide(observation),
        ):
            for head, value in played.items():
                np.testing.assert_array_equal(acted[head], value, err_msg=head)
    finally:
        restored.stop()


@pytest.mark.parametrize(("env", "env_config"), PLACES)
def test_a_checkpoint_decides_in_other_scenarios(env, env_config, trained):
    mdp = make_mdp(env, {"mean_tasks": 4, **env_config})
    policy = load_policy(trained[0], mdp)
    assert policy.mdp == mdp
    loaded = evaluate(policy, episodes=2)
    assert loaded["reward"].mean < 0
    other = evaluate(load_policy(trained[0]), mdp, episodes=2)
    assert loaded["reward"].mean == other["reward"].mean


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config_class", "env", "env_config"),
    [
        *((EMHPPOConfig, *place) for place in PLACES[-5:]),
        (AgileNNConfig, "mec_task_window_v0", UNLIKE),
    ],
)
def test_it_trains_where_things_differ_and_where_tasks_arrive(
    config_class, env, env_config, ray_session
):
    algorithm = config(env, config_class, **env_config).build_algo()
    try:
        result = algorithm.train()
    finally:
        algorithm.stop()
    assert np.isfinite(result["learners"][DEFAULT_MODULE_ID]["policy_loss"])
