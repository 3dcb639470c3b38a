"""Training on drawn scenarios: what is drawn, that each is played and learned from as it is."""

import numpy as np
import pytest
import torch
from joint import make_learner, make_runner, small
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from rllib_mec.algorithms import long_work
from rllib_mec.algorithms.columns import CREDIT, SCENARIO
from rllib_mec.algorithms.emh_ppo import EMHPPOConfig, teachers
from rllib_mec.algorithms.emh_ppo import algorithm as emh_ppo
from rllib_mec.algorithms.emh_ppo.env_runner import EMHPPOEnvRunner
from rllib_mec.algorithms.emh_ppo.imitation import _loss, demonstrate, imitate
from rllib_mec.algorithms.h_ppo import HPPOConfig
from rllib_mec.algorithms.joint_ppo.connectors import PerTaskAdvantages
from rllib_mec.algorithms.mappo import MAPPOConfig
from rllib_mec.algorithms.mat import MATConfig
from rllib_mec.algorithms.randomize import Pool
from rllib_mec.errors import MecError
from rllib_mec.experiments.config_schema import build_config
from rllib_mec.experiments.names import algorithm_class
from rllib_mec.experiments.restore import check_fits
from rllib_mec.policies import Planner, PlannerBudget, load_policy

SET = {"model": "set", "width": 16, "num_layers": 1, "num_heads": 2, "critic_hidden": 16}
QUICK = PlannerBudget(refined=1, rounds=1, proposals=1, samples=8, final_samples=8)
TWO = {"num_devices": [2, 3]}


def config(randomize, config_class=EMHPPOConfig, **env_config):
    own = small(config_class, randomize=randomize, **env_config)
    return own.rl_module(model_config=SET) if config_class is EMHPPOConfig else own


def weights(algorithm_or_runner):
    module = getattr(algorithm_or_runner, "env_runner", algorithm_or_runner).module
    return {k: v.copy() for k, v in module.get_state()[DEFAULT_MODULE_ID].items()}


def go_on(runner):
    """As after an update of the weights."""
    state = runner.get_state(components="rl_module")
    runner.set_state({**state, WEIGHTS_SEQ_NO: state[WEIGHTS_SEQ_NO] + 1})


def test_the_pool_is_drawn_by_the_seed_alone():
    randomize = {
        "num_devices": [1, 2, 3, 4],
        "num_servers": {"between": [1, 3]},
        "mean_tasks": {"between": [5, 9]},
        "distance_range_m": [[5, 50], [20, 100]],
        "num_scenarios": 8,
    }
    pools = [Pool.of(config(dict(order))) for order in (randomize, reversed(randomize.items()))]
    assert pools[0] == pools[1]
    assert pools[0].base == Pool.of(config(None)).base
    assert pools[0] != Pool.of(config(randomize).debugging(seed=4))
    drawn = [mdp.scenario for mdp in pools[0].mdps]
    assert sorted(each.num_devices for each in drawn) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert {each.num_servers for each in drawn} == {1, 2, 3}
    assert sorted(int(2 * (each.mean_tasks - 5)) for each in drawn) == list(range(8))
    assert {each.distance_range_m for each in drawn} == {(5.0, 50.0), (20.0, 100.0)}
    more = Pool.of(config({**randomize, "num_channels": [1, 2]}))
    assert [m.scenario.mean_tasks for m in more.mdps] == [each.mean_tasks for each in drawn]
    assert len(Pool.of(config(TWO)).mdps) == 2  # equal ones are one


def test_drawn_groups_replace_the_number_of_them():
    groups = [[{"count": 3}], [{"count": 1}, {"count": 1, "dnn": "mobilenet_v2"}]]
    drawn = [mdp.scenario for mdp in Pool.of(config({"devices": groups})).mdps]
    assert {(each.num_devices, each.dnns) for each in drawn} == {
        (3, ("resnet50",)),
        (2, ("resnet50", "mobilenet_v2")),
    }


def test_rewards_are_scaled_by_what_local_work_costs():
    pool = Pool.of(config({"dnn": ["resnet50", "mobilenet_v2"]}))
    scales = {
        mdp.scenario.dnn: scale for mdp, scale in zip(pool.mdps, pool.reward_scales, strict=True)
    }
    assert scales["resnet50"] == 10.0
    assert scales["mobilenet_v2"] == pytest.approx(10.0 * 20.65 / 45.06, rel=1e-3)


@pytest.mark.parametrize(
    ("randomize", "message"),
    [
        (
            {"num_devics": [2]},
            r"unknown key of env_config.randomize 'num_devics': did you mean",
        ),
        ({"num_devices": []}, "randomize.num_devices must be a list of choices that is not empty"),
        ({"num_devices": 3}, "randomize.num_devices must be a list of choices that is not empty"),
        ({"num_devices": [2, 3, 0]}, r"env_config.randomize.num_devices\[2\]: num_devices must be"),
        ({"dnn": ["resnet5"]}, r"env_config.randomize.dnn\[0\]: unknown dnn 'resnet5': did you"),
        ({"num_devices": {"betwen": [1, 2]}}, "randomize.num_devices 'betwen': did you mean 'bet"),
        ({"num_devices": {"between": [3, 2]}}, "between must be two numbers, the lower one first"),
        ({"num_devices": {"between": [1.5, 2]}}, r"num_devices.between\[0\]: num_devices must be"),
        ({"dnn": {"between": [1, 2]}}, "dnn must be a list of choices, .* and dnn is 'resnet50'"),
        ({"num_scenarios": 4}, "env_config.randomize names no field to draw"),
        ({**TWO, "num_scenarios": 0}, "env_config.randomize.num_scenarios must be"),
        ([2, 3], "env_config.randomize must be a mapping of fields to choices"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(randomize, message):
    with pytest.raises(MecError, match=message) as error:
        config(randomize).validate()
    assert "\n" not in str(error.value)


def test_scenarios_that_do_not_hold_together_are_refused_with_what_was_drawn():
    groups = {"servers": [[{"count": 2}], [{"count": 3}]], "num_servers": [2, 3]}
    message = (
        r"randomize: scenario 0 of at most 16 \(servers=.*\): num_servers is 3, but servers has"
    )
    with pytest.raises(MecError, match=message):
        config(groups).validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.rl_module(model_config={"model": "paper"}), "those of EMH-PPO do not here"),
        (lambda c: c.env_runners(env_to_module_connector=lambda *a: None), "env_to_module_connect"),
        (
            lambda c: c.offline_data(output="/tmp/x", output_write_episodes=False),
            "output has rows of one shape: leave it out",
        ),
        (
            lambda c: c.evaluation(evaluation_config={"env_config": {"randomize": TWO}}),
            "evaluation_config: leave randomize out",
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_one_line(change, message):
    with pytest.raises(MecError, match=message):
        change(config(TWO)).validate()


def test_networks_of_one_shape_are_refused():
    with pytest.raises(MecError, match="those of H-PPO do not here: leave it out, or tra"):
        config(TWO, HPPOConfig).validate()
    settings = {"env": "mec_task_window_v0", "env_config": {"actions": "flat", "randomize": TWO}}
    with pytest.raises(MecError, match="those of PPO do not here"):
        build_config(algorithm_class("PPO"), settings)


def test_a_call_plays_the_scenario_whose_turn_it_is_and_evaluation_the_base():
    own = config(TWO).training(counterfactuals=1)
    pool = Pool.of(own)
    runners = [make_runner(own), own.env_runner_cls(config=own, worker_index=2, num_workers=2)]
    module = runners[0].module[DEFAULT_MODULE_ID]
    for turn in (0, 1, 0):
        sizes = set()
        for runner in runners:
            episodes = runner.sample(num_timesteps=16)
            sizes |= {episode.get_actions(0)["window"].shape[0] for episode in episodes}
            assert all((e.extra_model_outputs[SCENARIO].data == turn).all() for e in episodes)
            credit = episodes[0].extra_model_outputs[CREDIT].data
            assert credit.shape[1:] == (pool.mdps[turn].scenario.num_devices,)
            assert np.isfinite(credit).all()
            go_on(runner)
        assert sizes == {pool.mdps[turn].scenario.num_devices}
        assert module.layout.num_devices == 2  # the base again
    evaluated = runners[0].sample(num_episodes=2, explore=False)
    assert evaluated[0].get_actions(0)["window"].shape == (2,)
    plain = config(None).training(counterfactuals=1)
    other = make_runner(plain)
    other.module.set_state(runners[0].module.get_state())
    for one, two in zip(evaluated, other.sample(num_episodes=2, explore=False), strict=True):
        assert one.get_return() == two.get_return()


def test_a_batch_is_made_and_learned_from_where_it_was_sampled():
    own = config(TWO).training(average_reward=True)
    pool = Pool.of(own)
    runner = make_runner(own)
    learner = make_learner(own, runner)
    module = learner.module[DEFAULT_MODULE_ID]
    for turn in (0, 1):
        before = {name: value.clone() for name, value in module.state_dict().items()}
        results = learner.update(
            episodes=runner.sample(), timesteps={"num_env_steps_sampled_lifetime": 64},
            num_epochs=1, minibatch_size=32,
        )  # fmt: skip
        assert results is not None
        assert module.layout.num_devices == pool.mdps[turn].scenario.num_devices
        after = module.state_dict()
        assert all(torch.isfinite(value).all() for value in after.values())
        assert any((after[name] != value).any() for name, value in before.items())
        go_on(runner)
    averages = learner._learner_connector[PerTaskAdvantages][0].average_shares
    assert set(averages) == {0, 1} and averages[0] != averages[1]


def test_demonstrations_of_all_scenarios_are_learned():
    own = config(TWO)
    pool = Pool.of(own)
    batches = [demonstrate(Planner(mdp, budget=QUICK, cache=False), 256, own) for mdp in pool.mdps]
    module = make_runner(own).module[DEFAULT_MODULE_ID]

    def losses():
        found = []
        for mdp, batch in zip(pool.mdps, batches, strict=True):
            module.bind(mdp)
            rows = {k: torch.from_numpy(v) for k, v in batch.items() if k != Columns.INFOS}
            with torch.no_grad():
                found.append(float(_loss(module, rows)))
        return found

    before = losses()
    imitate(module, *batches, num_epochs=16, seed=0, mdps=pool.mdps)
    after = losses()
    assert all(new < 0.8 * old for new, old in zip(after, before, strict=True))


@pytest.mark.parametrize("config_class", [MAPPOConfig, MATConfig])
def test_rivals_with_these_networks_train_on_them_too(config_class):
    own = config(TWO, config_class)
    own.rl_module(model_config={k: v for k, v in SET.items() if k != "model"})
    own.validate()
    runner = make_runner(own)
    learner = make_learner(own, runner)
    for _ in range(2):
        learner.update(
            episodes=runner.sample(), timesteps={"num_env_steps_sampled_lifetime": 64},
            num_epochs=1, minibatch_size=32,
        )  # fmt: skip
        weights = learner.module[DEFAULT_MODULE_ID].state_dict().values()
        assert all(torch.isfinite(value).all() for value in weights)
        go_on(runner)


@pytest.mark.slow
@pytest.mark.parametrize("num_env_runners", [0, 1])
def test_a_restored_run_goes_on_exactly(num_env_runners, ray_session, tmp_path):
    own = config(TWO).training(average_reward=True)
    own.env_runners(num_env_runners=num_env_runners)
    whole = own.copy(copy_frozen=False).build_algo()
    try:
        for iteration in range(4):
            if iteration == 2:
                path = whole.save_to_path(tmp_path / "checkpoint")
            whole.train()
        expected = whole.learner_group.get_weights()[DEFAULT_MODULE_ID]
        if num_env_runners:  # a process that goes back takes what a new one does
            whole.restore_from_path(path)
            restored = whole
        else:
            restored = Algorithm.from_checkpoint(path)
        for _ in range(2):
            restored.train()
        found = restored.learner_group.get_weights()[DEFAULT_MODULE_ID]
        restored.stop()
    finally:
        whole.stop()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert load_policy(path).scenario.num_devices == 2


@pytest.mark.slow
def test_an_algorithm_imitates_evaluates_and_goes_on_elsewhere(ray_session, tmp_path, monkeypatch):
    planned = []

    def planner(mdp, budget):
        planned.append(mdp)
        return Planner(mdp, budget=QUICK, cache=False)

    monkeypatch.setattr(teachers, "Planner", planner)
    own = config(TWO).training(demonstrations=64, imitation_epochs=1)
    own.learners(num_learners=1).evaluation(evaluation_interval=1, evaluation_duration=2)
    first = own.build_algo()
    try:
        result = first.train()
        assert planned == list(Pool.of(own).mdps)
        assert np.isfinite(result["evaluation"]["env_runners"]["reward"])
        assert np.isfinite(result["learners"][DEFAULT_MODULE_ID]["policy_loss"])
        path = first.save_to_path(tmp_path / "checkpoint")
        learned = first.learner_group.get_weights()[DEFAULT_MODULE_ID]
    finally:
        first.stop()
    elsewhere = config({"num_devices": [1, 4], "num_servers": [1, 3]}, num_devices=3)
    check_fits(path, algorithm_class("EMH-PPO"), [elsewhere])
    other = elsewhere.build_algo()
    try:
        other.restore_from_path(path)
        for name, value in weights(other).items():
            np.testing.assert_array_equal(value, learned[name], err_msg=name)
        assert np.isfinite(other.train()["learners"][DEFAULT_MODULE_ID]["policy_loss"])
    finally:
        other.stop()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_remote_env_runners_share_a_lesson_that_is_the_same_without_them(monkeypatch):
    demonstrate_alone, local, stages = EMHPPOEnvRunner.demonstrate, [], []

    def noted(runner, lesson, scenarios, tell):
        local.append(list(scenarios))  # remote ones have their own list
        return demonstrate_alone(runner, lesson, local[-1], tell)

    def asked_first(run):
        stages.append(long_work.told(run))
        long_work.forget(run)

    monkeypatch.setattr(emh_ppo, "forget", asked_first)
    monkeypatch.setattr(EMHPPOEnvRunner, "demonstrate", noted)
    learned = []
    for number in (0, 1):
        own = config(TWO).env_runners(num_env_runners=number).training(lr=0.0)
        own.training(demonstrations=64, imitation_epochs=1, teacher="search", search_candidates=8)
        algo = own.build_algo()
        try:
            algo.train()
            learned.append(algo.learner_group.get_weights()[DEFAULT_MODULE_ID])
        finally:
            algo.stop()
    assert local == [[0, 1]]
    told = [stage and (stage[0], 0.0 <= stage[1] < 1.0) for stage in stages]
    lesson = [None, ("lesson 1 of 1: demonstrations", True), ("lesson 1 of 1: imitation", True)]
    assert told == [None, *lesson, *lesson]
    for name, value in learned[0].items():
        np.testing.assert_allclose(learned[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
