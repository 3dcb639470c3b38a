"""Every number, switch and choice has a bound, with the same line in Python and from a file."""

import math
import typing

import numpy as np
import pytest
from ray import tune
from ray.rllib.algorithms.registry import ALGORITHMS as RLLIBS
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rllib_mec.algorithms.agile_nn import AgileNNConfig
from rllib_mec.algorithms.bounds import BOUNDS, Scheduled, check_bound, check_bounds
from rllib_mec.algorithms.emh_ppo import EMHPPO, EMHPPOConfig
from rllib_mec.algorithms.h_ppo import HPPOConfig
from rllib_mec.algorithms.joint_ppo.settings import SETTINGS, Honoured
from rllib_mec.algorithms.mahppo import MAHPPOConfig
from rllib_mec.algorithms.mappo import MAPPOConfig
from rllib_mec.algorithms.mat import MATConfig
from rllib_mec.errors import MecError
from rllib_mec.experiments import config_schema, experiment

ENV = "mec_task_window_v0"
CONFIGS = [EMHPPOConfig, AgileNNConfig, HPPOConfig, MAHPPOConfig, MAPPOConfig, MATConfig]
NAN, INF = math.nan, math.inf
REFUSED_OR_REMOVED = {
    name
    for settings in SETTINGS.values()
    for name, what in settings.items()
    if not isinstance(what, Honoured)
}


def config(config_class=EMHPPOConfig, **env_config):
    return config_class().environment(ENV, env_config={"num_devices": 2, **env_config})


def line(call):
    with pytest.raises(MecError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and "Value should" not in text, text
    return text


def in_python(key, value):
    def build():
        section, _ = config_schema.known_keys(EMHPPOConfig)[key]
        getattr(config(), section)(**{key: value}).validate()

    return line(build)


def by_attribute(key, value):
    def build():
        changed = config()
        setattr(changed, key, value)
        changed.validate()

    return line(build)


def in_a_file(key, value):
    settings = {"env": ENV, "env_config": {"num_devices": 2}, key: value}
    return line(lambda: config_schema.build_config(EMHPPO, settings))


def kinds_of(annotation):
    """The kinds in a union; those in a container are not the setting's own."""
    if typing.get_origin(annotation) is typing.Union:
        return set(typing.get_args(annotation))
    return {annotation}


@pytest.mark.parametrize("config_class", CONFIGS)
def test_every_number_and_switch_that_is_honoured_has_a_bound(config_class):
    plain = config_class()
    for name, (_, parameter) in config_schema.known_keys(config_class).items():
        kinds = kinds_of(parameter.annotation) | {type(getattr(plain, name, None))}
        if name not in REFUSED_OR_REMOVED and kinds & {int, float, bool}:
            assert name in config_class.bounds, name


@pytest.mark.parametrize("config_class", CONFIGS)
def test_no_bound_takes_what_is_no_number_and_every_default_is_in_its_bounds(config_class):
    plain = config_class()
    for name, bound in config_class.bounds.items():
        for value in (NAN, INF, -INF, np.float64(NAN), object()):
            assert name in line(lambda n=name, v=value, b=bound: check_bound(n, v, b))
        if isinstance(getattr(plain, name, None), int | float | bool):
            check_bound(name, getattr(plain, name), bound)


BAD = [
    ("gamma", 2.5, "at most 1"),
    ("gamma", -1, "at least 0"),
    ("gamma", NAN, "a finite number"),
    ("gamma", "x", "a number"),
    ("lambda_", -2, "at least 0"),
    ("clip_param", 0, "positive"),
    ("clip_param", True, "a number"),
    ("lr", -0.001, "at least 0"),
    ("lr", None, "a number"),
    ("lr", True, "a number"),
    ("lr", {"lr": 0.001, "x": 1}, "a number"),
    ("lr", [0.001, 0.0001], "a number or a schedule [[0, value], [timestep, value], ...]"),
    ("lr", [[0, "a"], [1, 0.1]], "lr at timestep 0 must be a number, but is 'a'"),
    ("lr", [[0, 0.1], [9, NAN]], "lr at timestep 9 must be a finite number"),
    ("lr", [[5, 0.1], [9, 0.1]], "the schedule of lr must begin at timestep 0, but begins at 5"),
    ("lr", [[0, 0.1], [9, 0.1], [5, 0.1]], "timesteps of lr must rise, but 5 follows 9"),
    ("lr", [[0, 0.1]], "a number or a schedule"),
    ("entropy_coeff", NAN, "a finite number"),
    ("entropy_coeff", [[0, 0.1], [5, -0.1]], "entropy_coeff at timestep 5 must be at least 0"),
    ("kl_coeff", -0.1, "at least 0"),
    ("kl_target", INF, "a finite number"),
    ("vf_loss_coeff", -1.0, "at least 0"),
    ("grad_clip", -1.0, "positive"),
    ("grad_clip_by", "norms", "did you mean 'norm'"),
    ("use_critic", 1, "true or false"),
    ("num_epochs", 0, "at least 1"),
    ("num_epochs", 1.5, "a whole number"),
    ("minibatch_size", -5, "at least 1"),
    ("train_batch_size_per_learner", 2.5, "a whole number"),
    ("train_batch_size_per_learner", 0, "at least 1"),
    ("num_env_runners", -1, "at least 0"),
    ("num_envs_per_env_runner", 0, "at least 1"),
    ("num_threads_per_env_runner", 0, "at least 1"),
    ("num_threads_per_env_runner", True, "a whole number"),
    ("sample_timeout_s", "x", "a number"),
    ("rollout_fragment_length", "x", "a whole number or 'auto'"),
    ("batch_mode", "complete_episode", "did you mean 'complete_episodes'"),
    ("explore", "no", "true or false"),
    ("env_to_module_connector", 5, "callable"),
    ("num_learners", -1, "at least 0"),
    ("num_gpus_per_learner", -0.5, "at least 0"),
    ("custom_resources_per_learner", {"tpu": -1}, "at least 0"),
    ("evaluation_interval", -1, "at least 0"),
    ("evaluation_interval", 1.5, "a whole number"),
    ("evaluation_duration_unit", "foo", "choose from episodes, timesteps"),
    ("evaluation_config", 5, "a mapping"),
    ("metrics_num_episodes_for_smoothing", 0, "at least 1"),
    ("seed", -1, "at least 0"),
    ("seed", True, "a whole number"),
    ("seed", 2**40, "less than 2147483648"),
    ("log_level", "warn", "did you mean 'WARN'"),
    ("env_config", None, "a mapping"),
    ("policies", 5, "a mapping"),
    ("model_config", 5, "a mapping"),
    ("rl_module_spec", 5, "RLModuleSpec"),
    ("reward_scale", 0, "positive"),
    ("average_reward", 1, "true or false"),
    ("demonstrations", -1, "at least 0"),
    ("demonstrations", 1.5, "a whole number"),
    ("counterfactuals", True, "a whole number"),
    ("imitation_epochs", 0, "at least 1"),
]


@pytest.mark.parametrize(("key", "value", "expected"), BAD)
def test_a_senseless_value_gets_the_same_line_in_python_and_from_a_file(key, value, expected):
    text = in_python(key, value)
    assert key in text and expected in text
    assert in_a_file(key, value) == text
    if key in vars(EMHPPOConfig()) and key not in {"env_config", "policies"}:
        assert by_attribute(key, value) == text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", [[0, 1e-3], [1e5, 1e-4], [1e5, 0]]),
        ("entropy_coeff", ((0, 0.02), (1000, 0.0))),
        ("minibatch_size", None),
        ("grad_clip", None),
        ("seed", np.int64(3)),
        ("gamma", np.float32(0.5)),
        ("rollout_fragment_length", "auto"),
        ("num_cpus_per_env_runner", 0.5),
        ("merge_env_runner_states", "training_only"),
        ("model_config", {"agent_hiddens": (8,), "compare_queues": False}),
    ],
)
def test_what_makes_sense_passes(key, value):
    section, _ = config_schema.known_keys(EMHPPOConfig)[key]
    getattr(config(), section)(**{key: value}).validate()


def test_whole_floats_of_yaml_are_whole_numbers():
    built = config_schema.build_config(
        EMHPPO, {"env": ENV, "train_batch_size_per_learner": 4e3, "reward_scale": 2.0}
    )
    assert built.train_batch_size_per_learner == 4000 and isinstance(built.reward_scale, float)


def test_search_spaces_are_left_for_their_draws(tmp_path):
    searched = config().training(lr=tune.loguniform(1e-4, 1e-3), gamma=tune.choice([0.9, 0.95]))
    spec = {"run": EMHPPO, "config": searched}
    assert 1e-4 <= experiment.check("x", spec, notify=pytest.fail).config.lr <= 1e-3
    bad = {"run": "EMH-PPO", "env": ENV, "config": {"gamma": {"uniform": [2.0, 3.0]}}}
    assert "gamma must be at most 1" in line(lambda: experiment.check("x", bad, pytest.fail))
    schedule = {"lr": {"grid_search": [1e-4, [[0, 1e-3], [1000, 1e-4]]]}}
    experiment.check("x", {"run": "EMH-PPO", "env": ENV, "config": schedule}, pytest.fail)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("power_levels", 5, "power_levels=5 is for RLlib's algorithms, leave it out"),
        ("fixed_partition", 1, "fixed_partition=1 is for RLlib's algorithms, leave it out"),
        ("actions", "flat", "actions='flat' is for RLlib's algorithms, leave it out"),
        ("render_mode", "ansi", "leave out render_mode='ansi', and use rllib-mec render"),
        ("num_device", 3, "did you mean 'num_devices'"),
    ],
)
def test_what_env_config_cannot_do_here_is_refused(key, value, expected):
    text = line(config(**{key: value}).validate)
    assert expected in text
    settings = {"env": ENV, "env_config": {"num_devices": 2, key: value}}
    assert line(lambda: config_schema.build_config(EMHPPO, settings)) == text


@pytest.mark.parametrize(
    ("config_class", "model_config", "expected"),
    [
        (EMHPPOConfig, {"compare_queues": 1}, "compare_queues must be true or false, but is 1"),
        (EMHPPOConfig, {"embedding_hiddens": []}, "a list that is not empty"),
        (EMHPPOConfig, {"agent_hiddens": 64}, "agent_hiddens must be a list, but is 64"),
        (EMHPPOConfig, {"critic_hiddens": "64"}, "critic_hiddens must be a list, but is '64'"),
        (HPPOConfig, {"actor_hiddens": [0]}, "actor_hiddens.0 must be at least 1, but is 0"),
        (MAHPPOConfig, {"agent_hiddens": [8.5]}, "agent_hiddens.0 must be a whole number"),
    ],
)
def test_sizes_of_networks_are_checked(config_class, model_config, expected):
    changed = config(config_class).rl_module(model_config=model_config)
    text = line(changed.validate)
    assert text.startswith("model_config: ") and expected in text


@pytest.mark.parametrize("value", [None, "x", object])
def test_classes_of_another_kind_are_refused(value):
    runner = config().env_runners(env_runner_cls=value)
    assert "env_runner_cls must be a subclass of TaskWindowEnvRunner" in line(runner.validate)
    if value is not None:  # the default
        learner = config().learners(learner_class=value)
        assert "learner_class must be a subclass of JointPPO" in line(learner.validate)
    module = config().rl_module(rl_module_spec=RLModuleSpec(module_class=object))
    assert "rl_module_spec must be a subclass of JointRLModule" in line(module.validate)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"explor": False}, "unknown key in evaluation_config 'explor': did you mean 'explore'"),
        ({"explore": "no"}, "explore must be true or false, but is 'no'"),
        ({"env_config": {"num_device": 3}}, "did you mean 'num_devices'"),
        ({"env_config": {"render_mode": "ansi"}}, "leave out render_mode='ansi'"),
    ],
)
def test_evaluation_config_is_checked_in_python_too(changes, expected):
    assert expected in line(config().evaluation(evaluation_config=changes).validate)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ("rllib_mec.envs.time_slot_v0:parallel_en", "did you mean 'parallel_env'"),
        ("rllib_mec.envs.time_slots_v0:parallel_env", "No module named 'rllib_mec.envs.time_slots"),
        ("collections:OrderedDict", "must be a subclass of MDP or MecParallelEnv"),
        ("mec_task_windw_v0", "did you mean 'mec_task_window_v0'"),
        ("CartPole-v1", "for other environments use an algorithm of RLlib, e.g. PPO"),
        (None, "env is None"),
    ],
)
def test_a_slip_in_the_envs_name_or_class_path_is_told(env, expected):
    assert expected in line(EMHPPOConfig().environment(env).validate)


def test_lambda_alone_needs_a_gamma_to_divide_by():
    changed = config(MAHPPOConfig).training(gamma=0, gae_without_gamma=True)
    assert "gae_without_gamma needs a gamma above 0" in line(changed.validate)


def stock():
    for name, load in RLLIBS.items():
        try:
            yield name, load()[1]
        except ImportError:  # an optional package of the algorithm's
            continue


@pytest.mark.parametrize(("name", "plain"), [pytest.param(*p, id=p[0]) for p in stock()])
def test_the_defaults_of_every_algorithm_pass(name, plain):
    check_bounds(plain)


def test_a_bound_is_a_kind_or_a_schedule_of_one():
    names = {name for settings in SETTINGS.values() for name in settings}
    assert set(BOUNDS) <= names
    assert {n for n, b in BOUNDS.items() if isinstance(b, Scheduled)} == {"lr", "entropy_coeff"}
