"""What values a setting takes: one table for configs in Python and for the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, InstanceOf
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, TorchCompileWhatToCompile
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rllib_mec.errors import MecError, unknown
from rllib_mec.network.checks import Count, Natural, NonNegative, Positive, Switch, checked

Share = Annotated[NonNegative, Field(le=1)]
Text = Annotated[str, Field(strict=True)]
Seed = Annotated[Natural, Field(lt=2**31)]  # NumPy's end at 2**32; Ray adds to it in env runners

Function = Callable[..., Any] | None

# `Any`, since type checkers do not know that an `Annotated` has `|`.
NONE: Any = None
AUTO: Any = Literal["auto"]
TRAINING_ONLY: Any = Literal["training_only"]


class Scheduled(NamedTuple):
    """A number, or RLlib's schedule ``[[0, value], [timestep, value], ...]`` of such numbers.

    Attributes:
        kind: An annotation of :mod:`rllib_mec.network.checks`.
    """

    kind: Any


BOUNDS: Mapping[str, Any] = {
    # resources
    "num_cpus_for_main_process": NonNegative,
    "custom_resources_for_main_process": dict[str, NonNegative],
    "placement_strategy": Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"],
    # python_environment
    "extra_python_environs_for_driver": dict,
    "extra_python_environs_for_worker": dict,
    # framework
    "torch_compile_learner": Switch,
    "torch_compile_learner_what_to_compile": TorchCompileWhatToCompile,
    "torch_compile_learner_dynamo_mode": Text | NONE,
    "torch_compile_learner_dynamo_backend": Text | NONE,
    "torch_ddp_kwargs": dict,
    "torch_skip_nan_gradients": Switch,
    # environment
    "env_config": dict,
    "clip_actions": Switch,
    # env_runners
    "num_env_runners": Natural,
    "create_local_env_runner": Switch,
    "create_env_on_local_worker": Switch,
    "num_envs_per_env_runner": Count,
    "num_cpus_per_env_runner": NonNegative,
    "custom_resources_per_env_runner": dict[str, NonNegative],
    "validate_env_runners_after_construction": Switch,
    "sample_timeout_s": Positive | NONE,
    "max_requests_in_flight_per_env_runner": Count,
    "add_default_connectors_to_env_to_module_pipeline": Switch,
    "add_default_connectors_to_module_to_env_pipeline": Switch,
    "episode_lookback_horizon": Natural,
    "merge_env_runner_states": Switch | TRAINING_ONLY,
    "broadcast_env_runner_states": Switch,
    "rollout_fragment_length": Count | AUTO,
    "batch_mode": Literal["truncate_episodes", "complete_episodes"],
    "explore": Switch,
    "env_to_module_connector": Function,
    "module_to_env_connector": Function,
    "observation_filter": Literal["NoFilter", "MeanStdFilter"],
    # learners
    "num_learners": Natural,
    "num_cpus_per_learner": NonNegative | AUTO,
    "num_gpus_per_learner": NonNegative,
    "custom_resources_per_learner": dict[str, NonNegative],
    "local_gpu_idx": Natural,
    "max_requests_in_flight_per_learner": Count,
    "add_default_connectors_to_learner_pipeline": Switch,
    "learner_config_dict": dict,
    "learner_connector": Function,
    # training
    "use_critic": Switch,
    "use_gae": Switch,
    "lambda_": Share,
    "use_kl_loss": Switch,
    "kl_coeff": NonNegative,
    "kl_target": NonNegative,
    "vf_loss_coeff": NonNegative,
    "entropy_coeff": Scheduled(NonNegative),
    "clip_param": Positive,
    "vf_clip_param": Positive | NONE,
    "grad_clip": Positive | NONE,
    "gamma": Share,
    "lr": Scheduled(NonNegative),
    "grad_clip_by": Literal["value", "norm", "global_norm"],
    "train_batch_size_per_learner": Count | NONE,
    "num_epochs": Count,
    "minibatch_size": Count | NONE,
    "shuffle_batch_per_epoch": Switch,
    # evaluation
    "evaluation_interval": Natural | NONE,
    "evaluation_duration": Count | AUTO,
    "evaluation_duration_unit": Literal["episodes", "timesteps"],
    "evaluation_auto_duration_min_env_steps_per_sample": Count,
    "evaluation_auto_duration_max_env_steps_per_sample": Count,
    "evaluation_sample_timeout_s": Positive | NONE,
    "evaluation_parallel_to_training": Switch,
    "evaluation_unhealthy_workers_timeout_s": NonNegative,
    "evaluation_error_after_n_consecutive_skips": Count | NONE,
    "evaluation_config": dict | InstanceOf[AlgorithmConfig] | NONE,
    "evaluation_num_env_runners": Natural,
    "custom_evaluation_function": Function,
    # offline_data
    "output": Text | NONE,
    "output_compress_columns": list[Text] | tuple[Text, ...],
    "output_max_rows_per_file": Count | NONE,
    "output_write_remaining_data": Switch,
    "output_write_method": Text,
    "output_write_method_kwargs": dict,
    "output_filesystem_kwargs": dict,
    "output_write_episodes": Switch,
    # multi_agent
    "policies": dict | set | list | tuple,
    "count_steps_by": Literal["env_steps", "agent_steps"],
    # reporting
    "metrics_num_episodes_for_smoothing": Count,
    "min_time_s_per_iteration": NonNegative | NONE,
    "min_train_timesteps_per_iteration": Natural | NONE,
    "min_sample_timesteps_per_iteration": Natural | NONE,
    "log_gradients": Switch,
    # debugging
    "log_level": Literal["DEBUG", "INFO", "WARN", "WARNING", "ERROR"],
    "log_sys_usage": Switch,
    "seed": Seed | NONE,
    # fault_tolerance
    "restart_failed_env_runners": Switch,
    "ignore_env_runner_failures": Switch,
    "max_num_env_runner_restarts": Natural,
    "delay_between_env_runner_restarts_s": NonNegative,
    "num_consecutive_env_runner_failures_tolerance": Natural,
    "env_runner_health_probe_timeout_s": NonNegative,
    "env_runner_restore_timeout_s": NonNegative,
    # rl_module
    "model_config": dict | InstanceOf[DefaultModelConfig],
    "rl_module_spec": InstanceOf[RLModuleSpec] | InstanceOf[MultiRLModuleSpec] | NONE,
    # experimental
    "_validate_config": Switch,
    "_use_msgpack_checkpoints": Switch,
}
"""Setting of ``PPOConfig`` -> the values it takes, also where another algorithm of RLlib's has it.

What is not here is a class, a callback or an object that Ray hands on, or has its own check.
"""


def bounds_of(config: Any) -> Mapping[str, Any]:
    """The bounds of a config's settings, those of its own algorithm included.

    Args:
        config: An ``AlgorithmConfig``.
    """
    return getattr(config, "bounds", BOUNDS)


def check_bound(name: str, value: Any, bound: Any) -> None:
    """Refuse a value that a setting does not take.

    Args:
        name: The setting's.
        value: What was given.
        bound: A value of :data:`BOUNDS`.

    Raises:
        MecError: Names the setting, what it takes, and the value.
    """
    if not isinstance(bound, Scheduled):
        checked(name, value, bound)
    elif not isinstance(value, list | tuple):
        checked(name, value, bound.kind)
    else:
        _check_schedule(name, value, bound.kind)


def _check_schedule(name: str, schedule: list | tuple, kind: Any) -> None:
    pairs = all(isinstance(point, list | tuple) and len(point) == 2 for point in schedule)
    if len(schedule) < 2 or not pairs:
        raise MecError(
            f"{name} must be a number or a schedule [[0, value], [timestep, value], ...], "
            f"but is {schedule!r}"
        )
    before = 0
    for timestep, value in schedule:
        checked(f"a timestep of {name}", timestep, NonNegative)
        checked(f"{name} at timestep {timestep}", value, kind)
        if timestep < before:
            raise MecError(f"the timesteps of {name} must rise, but {timestep} follows {before}")
        before = timestep
    if schedule[0][0] != 0:
        raise MecError(
            f"the schedule of {name} must begin at timestep 0, but begins at {schedule[0][0]}"
        )


def check_bounds(config: Any) -> None:
    """Refuse every value out of its bounds, in the config and in its ``evaluation_config``.

    A default is never refused: some algorithms of RLlib's have ``None`` where PPO has a number.

    Args:
        config: An ``AlgorithmConfig`` without search spaces.

    Raises:
        MecError: As :func:`check_bound`; or ``evaluation_config`` has a key that is no setting.
    """
    bounds, plain = bounds_of(config), type(config)()
    values = vars(config)
    for name, bound in bounds.items():
        kept = name if name in values else f"_{name}"  # some are properties besides
        if kept in values and not is_default(plain, kept, values[kept]):
            check_bound(name, values[kept], bound)
    changes = config.evaluation_config
    if isinstance(changes, dict):
        names = {*values, *config.to_dict()}
        for name, value in changes.items():
            if name not in names and not hasattr(config, name):
                raise unknown("key in evaluation_config", name, names, show=12)
            if name in bounds and not is_default(plain, name, value):
                check_bound(name, value, bounds[name])


def is_default(plain: Any, name: str, value: Any) -> bool:
    """Whether a text, a number or ``None`` is what a config has by default; ``True`` is not 1.

    Args:
        plain: A config on which nothing has been set.
        name: The setting's.
        value: What was given.
    """
    default = getattr(plain, name, None)
    is_plain = value is None or isinstance(value, str | int | float)
    return is_plain and type(value) is type(default) and value == default
