"""Every setting of PPOConfig has a stated effect or is refused in one line."""

import inspect

import pytest
from ray._common.deprecation import DEPRECATED_VALUE
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.utils.from_config import NotProvided

from rllib_mec.algorithms.emh_ppo import EMHPPOConfig
from rllib_mec.algorithms.h_ppo import HPPOConfig
from rllib_mec.algorithms.joint_ppo.settings import SETTINGS, Refused, Removed
from rllib_mec.errors import MecError


def arguments(section: str) -> dict[str, object]:
    """Arguments of a section method and their defaults, PPO's own and the base class's."""
    found = {}
    for config in (PPOConfig, AlgorithmConfig):
        for parameter in inspect.signature(getattr(config, section)).parameters.values():
            if parameter.name != "self" and parameter.kind != parameter.VAR_KEYWORD:
                found.setdefault(parameter.name, parameter.default)
    return found


def is_deprecated(default: object) -> bool:
    return default is DEPRECATED_VALUE or default == DEPRECATED_VALUE


def sections() -> list[str]:
    """The methods of Ray's config that set something: all of their arguments are optional."""
    return [
        name
        for name, method in vars(AlgorithmConfig).items()
        if inspect.isfunction(method)
        and any(p.default is NotProvided for p in inspect.signature(method).parameters.values())
    ]


def config(config_class=EMHPPOConfig):
    return config_class().environment("mec_task_window_v0", env_config={"num_devices": 2})


def test_the_table_has_every_section():
    assert set(sections()) == set(SETTINGS)


@pytest.mark.parametrize("section", SETTINGS)
def test_the_table_has_every_setting_of_a_section(section):
    current = {name for name, default in arguments(section).items() if not is_deprecated(default)}
    stated = {name for name, what in SETTINGS[section].items() if not isinstance(what, Removed)}
    anywhere = {name for settings in SETTINGS.values() for name in settings}
    assert stated <= current <= anywhere  # Ray takes some in two sections
    assert all(len(what[0]) > 5 for what in SETTINGS[section].values())


@pytest.mark.parametrize("section", SETTINGS)
def test_a_deprecated_setting_is_translated_or_refused_but_not_dropped(section):
    for name, default in arguments(section).items():
        if not is_deprecated(default):
            continue
        changed = config()
        before = dict(vars(changed))
        try:
            getattr(changed, section)(**{name: 3.25})
        except ValueError:
            continue
        if vars(changed) == before:
            pytest.fail(f"{section}({name}=...) was dropped")


REFUSED = [
    (section, name)
    for section, settings in SETTINGS.items()
    for name, what in settings.items()
    if isinstance(what, Refused)
]
TYPED = {
    "policies": ["a", "b"],
    "policies_to_train": ["a"],
    "algorithm_config_overrides_per_module": {"default_policy": {"lr": 0.1}},
    "model": {"fcnet_hiddens": [8]},
    "optimizer": {"eps": 1.0},
    "input_config": {"a": 1},
    "exploration_config": {"type": "EpsilonGreedy"},
    "render_env": True,
    "framework": "tf2",
    "tf_session_args": {"log_device_placement": True},
}


@pytest.mark.parametrize(("section", "name"), REFUSED)
def test_what_is_refused_is_named_in_one_line(section, name):
    changed = config()
    default = getattr(changed, SETTINGS[section][name].attribute or name)
    value = TYPED.get(name, not default if isinstance(default, bool) else 3.25)
    getattr(changed, section)(**{name: value})
    with pytest.raises(MecError, match=f"{name} must be .* in EMH-PPO, but is ") as error:
        changed.validate()
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize("config_class", [EMHPPOConfig, HPPOConfig])
def test_a_config_stays_valid_through_copies_states_and_evaluation(config_class):
    first = config(config_class).evaluation(
        evaluation_interval=1, evaluation_config={"explore": False}
    )
    first.validate()
    first.validate()
    first.copy(copy_frozen=False).validate()
    first.get_evaluation_config_object().validate()
    config_class.from_state(first.get_state()).validate()
    config_class().update_from_dict(first.to_dict()).validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.training(vf_share_layers=True), "EMH-PPO has no vf_share_layers"),
        (lambda c: c.env_runners(enable_connectors=False), "EMH-PPO has no enable_connectors"),
        (lambda c: c.env_runners(observation_filter="MeanStd"), "did you mean 'MeanStdFilter'"),
        (lambda c: c.training(vf_clip_param=0), "vf_clip_param must be positive"),
        (lambda c: c.training(use_critic="no"), "use_critic must be true or false"),
        (lambda c: c.training(use_critic=False), "use_critic can be false if batch_mode is"),
        (lambda c: c.training(use_gae=False), "use_gae can be false if batch_mode is"),
        (lambda c: c.env_runners(env_runner_cls=object), "subclass of TaskWindowEnvRunner"),
        (
            lambda c: c.evaluation(evaluation_parallel_to_training=True),
            "set evaluation_num_env_runners to 1 or more",
        ),
        (
            lambda c: c.evaluation(evaluation_duration="auto"),
            "set evaluation_parallel_to_training to true",
        ),
    ],
)
def test_values_without_a_meaning_are_named_in_one_line(change, message):
    with pytest.raises(MecError, match=message) as error:
        change(config()).validate()
    assert "\n" not in str(error.value)


RAW = {"compare_queues": False}
FILTERED = {"observation_filter": "MeanStdFilter"}
CONNECTED = {"env_to_module_connector": lambda *args, **kwargs: []}


@pytest.mark.parametrize(
    ("changes", "model_config", "demonstrations", "message"),
    [
        (FILTERED, {}, 0, "compare_queues in model_config must be false with an observation_f"),
        (FILTERED, RAW, 64, "demonstrations must be 0 with an observation_filter, .* is 64"),
        (CONNECTED, {}, 64, "demonstrations must be 0 with an env_to_module_connector, .* is 64"),
        (FILTERED, RAW, 0, None),
        (CONNECTED, {}, 0, None),
        ({}, {}, 64, None),
    ],
)
def test_queues_are_compared_and_demonstrated_as_the_networks_see_them(
    changes, model_config, demonstrations, message
):
    changed = config().env_runners(**changes).rl_module(model_config=model_config)
    changed.training(demonstrations=demonstrations, counterfactuals=1)
    if message is None:
        return changed.validate()
    with pytest.raises(MecError, match=message) as error:
        changed.validate()
    assert "\n" not in str(error.value)


def test_the_defaults_are_those_that_the_results_were_trained_with():
    plain = EMHPPOConfig()
    assert plain.vf_clip_param is None and plain.use_kl_loss is False
    assert plain.batch_mode == "truncate_episodes" and plain.observation_filter == "NoFilter"
