"""What becomes of every setting of ``PPOConfig``: this table, and the check of what it refuses.

A setting has a stated effect, or a value other than the default is refused in one line. One that a
later version of Ray adds is in neither list, and fails a test until someone decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ray.rllib.utils.from_config import NotProvided
from ray.tune.search.variant_generator import _has_unresolved_values

from rllib_mec.algorithms.bounds import check_bound
from rllib_mec.errors import MecError
from rllib_mec.registry import algorithm_name


class Honoured(NamedTuple):
    """A setting with an effect.

    Attributes:
        effect: What it does.
    """

    effect: str


class Refused(NamedTuple):
    """A setting without a meaning here: only its default is accepted.

    Attributes:
        reason: Why, or what to set instead.
        attribute: Under which the config keeps it, if not under its own name.
        as_compared: Makes of a value what is compared with the default's.
    """

    reason: str
    attribute: str | None = None
    as_compared: Callable[[Any], Any] = lambda value: value


class Removed(NamedTuple):
    """An argument that RLlib still takes, and silently drops.

    Attributes:
        reason: What to set instead.
    """

    reason: str


def _names(policies: Any) -> Any:
    return set(policies) if isinstance(policies, Mapping | set | list | tuple) else policies


Setting = Honoured | Refused | Removed

_AS_IN_PPO = Honoured("as in PPO")
_OF_REMOTE = Honoured("as in PPO, of remote env runners")
_CALLED = Honoured("called as in PPO")
_OLD_STACK = "it is of RLlib's old API stack"
_NO_TENSORFLOW = Refused("the networks are of PyTorch")
_NOT_OFFLINE = Refused("it learns from what it samples, not from recorded data")
_ONE_MODULE = Refused("one module decides for all MDs")
_SYNCHRONOUS = Refused("its learners get their batches from the algorithm, synchronously")
_OWN_SPACES = Refused("the worlds have spaces of their own")
_NOT_GYMNASIUM = Refused("the worlds are a compiled batch, not Gymnasium environments")

SETTINGS: dict[str, dict[str, Setting]] = {
    "python_environment": {
        "extra_python_environs_for_driver": _AS_IN_PPO,
        "extra_python_environs_for_worker": _AS_IN_PPO,
    },
    "resources": {
        "num_cpus_for_main_process": _AS_IN_PPO,
        "custom_resources_for_main_process": _AS_IN_PPO,
        "num_gpus": Refused(f"{_OLD_STACK}; use num_gpus_per_learner"),
        "_fake_gpus": Refused(_OLD_STACK),
        "placement_strategy": _AS_IN_PPO,
    },
    "framework": {
        "framework": Refused("the networks are of PyTorch", "framework_str"),
        "eager_tracing": _NO_TENSORFLOW,
        "eager_max_retraces": _NO_TENSORFLOW,
        "tf_session_args": _NO_TENSORFLOW,
        "local_tf_session_args": _NO_TENSORFLOW,
        "torch_compile_learner": _AS_IN_PPO,
        "torch_compile_learner_what_to_compile": _AS_IN_PPO,
        "torch_compile_learner_dynamo_mode": _AS_IN_PPO,
        "torch_compile_learner_dynamo_backend": _AS_IN_PPO,
        "torch_compile_worker": Refused("only the learner's networks can be compiled"),
        "torch_compile_worker_dynamo_backend": Refused("only the learner's networks are compiled"),
        "torch_compile_worker_dynamo_mode": Refused("only the learner's networks are compiled"),
        "torch_ddp_kwargs": _AS_IN_PPO,
        "torch_skip_nan_gradients": _AS_IN_PPO,
    },
    "api_stack": {
        "enable_rl_module_and_learner": Refused("it is written for RLlib's new API stack"),
        "enable_env_runner_and_connector_v2": Refused("it is written for RLlib's new API stack"),
    },
    "environment": {
        "env": Honoured("an env id of this package"),
        "env_config": Honoured("fields of the scenario and of the MDP"),
        "observation_space": _OWN_SPACES,
        "action_space": _OWN_SPACES,
        "render_env": Refused("worlds in training are not drawn; use rllib-mec render"),
        "clip_rewards": Refused("rewards are divided by reward_scale instead"),
        "normalize_actions": Refused("the power's distribution lies in [0, 1] by itself"),
        "clip_actions": Honoured("powers are clipped to [0, 1], whatever it is"),
        "disable_env_checking": _NOT_GYMNASIUM,
        "is_atari": Refused("the worlds are no Atari games", "_is_atari"),
        "action_mask_key": Refused("decisions are not masked"),
    },
    "env_runners": {
        "env_runner_cls": Honoured("a subclass of TaskWindowEnvRunner"),
        "num_env_runners": _AS_IN_PPO,
        "create_local_env_runner": _AS_IN_PPO,
        "create_env_on_local_worker": Honoured("the local env runner has worlds in any case"),
        "num_envs_per_env_runner": Honoured("worlds that an env runner steps at once"),
        "gym_env_vectorize_mode": _NOT_GYMNASIUM,
        "num_cpus_per_env_runner": _OF_REMOTE,
        "num_gpus_per_env_runner": Refused("env runners act on the CPU"),
        "custom_resources_per_env_runner": _OF_REMOTE,
        "validate_env_runners_after_construction": _OF_REMOTE,
        "sample_timeout_s": _OF_REMOTE,
        "max_requests_in_flight_per_env_runner": _OF_REMOTE,
        "env_to_module_connector": _AS_IN_PPO,
        "module_to_env_connector": _AS_IN_PPO,
        "add_default_connectors_to_env_to_module_pipeline": _AS_IN_PPO,
        "add_default_connectors_to_module_to_env_pipeline": _AS_IN_PPO,
        "episode_lookback_horizon": Honoured("as in PPO, where callbacks or connectors look on"),
        "merge_env_runner_states": _OF_REMOTE,
        "broadcast_env_runner_states": _OF_REMOTE,
        "use_env_runner_state_server": _SYNCHRONOUS,
        "env_runner_state_server_max_concurrency": _SYNCHRONOUS,
        "compress_observations": Refused(_OLD_STACK),
        "rollout_fragment_length": _AS_IN_PPO,
        "batch_mode": Honoured("complete_episodes: an episode of every world in each sample"),
        "explore": _AS_IN_PPO,
        "episodes_to_numpy": Refused("episodes always hold arrays"),
        "use_worker_filter_stats": Refused(f"{_OLD_STACK}; use merge_env_runner_states"),
        "update_worker_filter_stats": Refused(f"{_OLD_STACK}; use broadcast_env_runner_states"),
        "exploration_config": Refused(f"{_OLD_STACK}; use explore"),
        "sample_collector": Refused(_OLD_STACK),
        "remote_worker_envs": _NOT_GYMNASIUM,
        "remote_env_batch_wait_ms": _NOT_GYMNASIUM,
        "preprocessor_pref": Refused(_OLD_STACK),
        "observation_filter": Honoured("MeanStdFilter: RLlib's connector of that name"),
        "enable_tf1_exec_eagerly": _NO_TENSORFLOW,
        "sampler_perf_stats_ema_coef": Refused(_OLD_STACK),
        "enable_connectors": Removed("connectors are always enabled"),
    },
    "learners": {
        "num_learners": _AS_IN_PPO,
        "num_cpus_per_learner": _AS_IN_PPO,
        "num_gpus_per_learner": _AS_IN_PPO,
        "custom_resources_per_learner": _AS_IN_PPO,
        "num_aggregator_actors_per_learner": _SYNCHRONOUS,
        "max_requests_in_flight_per_aggregator_actor": _SYNCHRONOUS,
        "local_gpu_idx": _AS_IN_PPO,
        "max_requests_in_flight_per_learner": _AS_IN_PPO,
        "learner_class": Honoured("as in PPO; a subclass of the algorithm's own"),
        "learner_connector": _AS_IN_PPO,
        "add_default_connectors_to_learner_pipeline": _AS_IN_PPO,
        "learner_config_dict": Honoured("as in PPO, for a learner_class that reads it"),
    },
    "training": {
        "use_critic": Honoured("false: no critic is trained, advantages are returns"),
        "use_gae": Honoured("false: returns less values, as with lambda_ 1"),
        "lambda_": _AS_IN_PPO,
        "use_kl_loss": Honoured("adds the mean KL divergence of an MD's decision"),
        "kl_coeff": _AS_IN_PPO,
        "kl_target": _AS_IN_PPO,
        "vf_loss_coeff": _AS_IN_PPO,
        "entropy_coeff": _AS_IN_PPO,
        "entropy_coeff_schedule": Refused(f"{_OLD_STACK}; give entropy_coeff a schedule"),
        "clip_param": _AS_IN_PPO,
        "vf_clip_param": Honoured("as in PPO, of each task slot's squared error; None: no limit"),
        "grad_clip": _AS_IN_PPO,
        "lr_schedule": Refused(f"{_OLD_STACK}; give lr a schedule"),
        "vf_share_layers": Removed("actor and critic share nothing"),
        "gamma": _AS_IN_PPO,
        "lr": _AS_IN_PPO,
        "grad_clip_by": _AS_IN_PPO,
        "train_batch_size": Refused("use train_batch_size_per_learner"),
        "train_batch_size_per_learner": _AS_IN_PPO,
        "num_epochs": _AS_IN_PPO,
        "minibatch_size": _AS_IN_PPO,
        "shuffle_batch_per_epoch": _AS_IN_PPO,
        "model": Refused(f"{_OLD_STACK}; use model_config"),
        "optimizer": Refused(f"{_OLD_STACK}; use a learner_class of your own"),
    },
    "callbacks": {
        "callbacks_class": _CALLED,
        "on_algorithm_init": _CALLED,
        "on_train_result": _CALLED,
        "on_evaluate_start": _CALLED,
        "on_evaluate_end": _CALLED,
        "on_evaluate_offline_start": _NOT_OFFLINE._replace(
            attribute="callbacks_on_evaluate_offline_start"
        ),
        "on_evaluate_offline_end": _NOT_OFFLINE._replace(
            attribute="callbacks_on_evaluate_offline_end"
        ),
        "on_env_runners_recreated": _CALLED,
        "on_offline_eval_runners_recreated": _NOT_OFFLINE._replace(
            attribute="callbacks_on_offline_eval_runners_recreated"
        ),
        "on_checkpoint_loaded": _CALLED,
        "on_environment_created": _CALLED,
        "on_episode_created": _CALLED,
        "on_episode_start": _CALLED,
        "on_episode_step": _CALLED,
        "on_episode_end": _CALLED,
        "on_sample_end": _CALLED,
    },
    "evaluation": {
        "evaluation_interval": _AS_IN_PPO,
        "evaluation_duration": Honoured("as in PPO, in whole episodes of the paper's protocol"),
        "evaluation_duration_unit": _AS_IN_PPO,
        "evaluation_auto_duration_min_env_steps_per_sample": _AS_IN_PPO,
        "evaluation_auto_duration_max_env_steps_per_sample": _AS_IN_PPO,
        "evaluation_sample_timeout_s": _AS_IN_PPO,
        "evaluation_parallel_to_training": _AS_IN_PPO,
        "evaluation_unhealthy_workers_timeout_s": _AS_IN_PPO,
        "evaluation_error_after_n_consecutive_skips": _AS_IN_PPO,
        "evaluation_force_reset_envs_before_iteration": Refused(
            "an evaluation always begins new episodes"
        ),
        "evaluation_config": _AS_IN_PPO,
        "off_policy_estimation_methods": _NOT_OFFLINE,
        "ope_split_batch_by_episode": _NOT_OFFLINE,
        "evaluation_num_env_runners": _AS_IN_PPO,
        "custom_evaluation_function": _AS_IN_PPO,
        "offline_evaluation_interval": _NOT_OFFLINE,
        "num_offline_eval_runners": _NOT_OFFLINE,
        "offline_evaluation_type": _NOT_OFFLINE,
        "offline_eval_runner_class": _NOT_OFFLINE,
        "offline_loss_for_module_fn": _NOT_OFFLINE,
        "offline_eval_batch_size_per_runner": _NOT_OFFLINE,
        "dataset_num_iters_per_offline_eval_runner": _NOT_OFFLINE._replace(
            attribute="dataset_num_iters_per_eval_runner"
        ),
        "offline_eval_rl_module_inference_only": _NOT_OFFLINE,
        "num_cpus_per_offline_eval_runner": _NOT_OFFLINE,
        "num_gpus_per_offline_eval_runner": _NOT_OFFLINE,
        "custom_resources_per_offline_eval_runner": _NOT_OFFLINE,
        "offline_evaluation_timeout_s": _NOT_OFFLINE,
        "max_requests_in_flight_per_offline_eval_runner": _NOT_OFFLINE,
        "broadcast_offline_eval_runner_states": _NOT_OFFLINE,
        "validate_offline_eval_runners_after_construction": _NOT_OFFLINE,
        "restart_failed_offline_eval_runners": _NOT_OFFLINE,
        "ignore_offline_eval_runner_failures": _NOT_OFFLINE,
        "max_num_offline_eval_runner_restarts": _NOT_OFFLINE,
        "offline_eval_runner_health_probe_timeout_s": _NOT_OFFLINE,
        "offline_eval_runner_restore_timeout_s": _NOT_OFFLINE,
    },
    "offline_data": {
        "input_": _NOT_OFFLINE,
        "offline_data_class": _NOT_OFFLINE,
        "input_read_method": _NOT_OFFLINE,
        "input_read_method_kwargs": _NOT_OFFLINE,
        "input_read_schema": _NOT_OFFLINE,
        "input_read_episodes": _NOT_OFFLINE,
        "input_read_sample_batches": _NOT_OFFLINE,
        "input_read_batch_size": _NOT_OFFLINE,
        "input_filesystem": _NOT_OFFLINE,
        "input_filesystem_kwargs": _NOT_OFFLINE,
        "input_compress_columns": _NOT_OFFLINE,
        "materialize_data": _NOT_OFFLINE,
        "materialize_mapped_data": _NOT_OFFLINE,
        "map_batches_kwargs": _NOT_OFFLINE,
        "iter_batches_kwargs": _NOT_OFFLINE,
        "ignore_final_observation": _NOT_OFFLINE,
        "prelearner_class": _NOT_OFFLINE,
        "prelearner_buffer_class": _NOT_OFFLINE,
        "prelearner_buffer_kwargs": _NOT_OFFLINE,
        "prelearner_module_synch_period": _NOT_OFFLINE,
        "prelearner_use_recorded_module_states": _NOT_OFFLINE,
        "dataset_num_iters_per_learner": _NOT_OFFLINE,
        "input_config": _NOT_OFFLINE,
        "actions_in_input_normalized": _NOT_OFFLINE,
        "postprocess_inputs": _NOT_OFFLINE,
        "shuffle_buffer_size": _NOT_OFFLINE,
        "output": Honoured("records sampled episodes below this folder"),
        "output_config": Refused(f"{_OLD_STACK}; use output_write_method_kwargs"),
        "output_compress_columns": _AS_IN_PPO,
        "output_max_file_size": Refused(f"{_OLD_STACK}; use output_max_rows_per_file"),
        "output_max_rows_per_file": _AS_IN_PPO,
        "output_write_remaining_data": _AS_IN_PPO,
        "output_write_method": _AS_IN_PPO,
        "output_write_method_kwargs": _AS_IN_PPO,
        "output_filesystem": _AS_IN_PPO,
        "output_filesystem_kwargs": _AS_IN_PPO,
        "output_write_episodes": Honoured("as in PPO; true needs msgpack-numpy"),
        "offline_sampling": _NOT_OFFLINE,
    },
    "multi_agent": {
        "policies": _ONE_MODULE._replace(as_compared=_names),
        "policy_map_capacity": _ONE_MODULE,
        "policy_mapping_fn": _ONE_MODULE,
        "policies_to_train": _ONE_MODULE,
        "policy_states_are_swappable": _ONE_MODULE,
        "observation_fn": _ONE_MODULE,
        "count_steps_by": Honoured("as in PPO; env and agent steps are as many here"),
    },
    "reporting": {
        "keep_per_episode_custom_metrics": Refused(f"{_OLD_STACK}; use metrics_logger"),
        "metrics_episode_collection_timeout_s": Refused(_OLD_STACK),
        "metrics_num_episodes_for_smoothing": _AS_IN_PPO,
        "min_time_s_per_iteration": _AS_IN_PPO,
        "min_train_timesteps_per_iteration": _AS_IN_PPO,
        "min_sample_timesteps_per_iteration": _AS_IN_PPO,
        "log_gradients": _AS_IN_PPO,
        "custom_stats_cls_lookup": _AS_IN_PPO,
    },
    "checkpointing": {
        "export_native_model_files": Refused(_OLD_STACK),
        "checkpoint_trainable_policies_only": _ONE_MODULE,
    },
    "debugging": {
        "log_level": _AS_IN_PPO,
        "log_sys_usage": _AS_IN_PPO,
        "fake_sampler": Refused(_OLD_STACK),
        "seed": Honoured("as in PPO; runs with the same seed are the same"),
    },
    "fault_tolerance": {
        "restart_failed_env_runners": _OF_REMOTE,
        "ignore_env_runner_failures": _OF_REMOTE,
        "max_num_env_runner_restarts": _OF_REMOTE,
        "delay_between_env_runner_restarts_s": _OF_REMOTE,
        "restart_failed_sub_environments": _NOT_GYMNASIUM,
        "num_consecutive_env_runner_failures_tolerance": _OF_REMOTE,
        "env_runner_health_probe_timeout_s": _OF_REMOTE,
        "env_runner_restore_timeout_s": _OF_REMOTE,
    },
    "rl_module": {
        "model_config": Honoured("sizes of the networks; see the algorithm's own ModelConfig"),
        "rl_module_spec": Honoured("as in PPO; a subclass of JointRLModule"),
        "algorithm_config_overrides_per_module": _ONE_MODULE,
    },
    "experimental": {
        "_validate_config": _AS_IN_PPO,
        "_use_msgpack_checkpoints": _AS_IN_PPO,
        "_torch_grad_scaler_class": _AS_IN_PPO,
        "_torch_lr_scheduler_classes": _AS_IN_PPO,
        "_tf_policy_handles_more_than_one_loss": _NO_TENSORFLOW,
        "_disable_preprocessor_api": Refused(_OLD_STACK),
        "_disable_action_flattening": Refused(_OLD_STACK),
        "_disable_initialize_loss_from_dummy_batch": Refused(_OLD_STACK),
    },
}
"""Section method of ``AlgorithmConfig`` -> argument -> what becomes of it."""


def check_settings(config: Any) -> None:
    """Refuse every setting that would have no effect.

    Args:
        config: The algorithm's config.

    Raises:
        MecError: Names the setting, the value, and why it is refused.
    """
    plain = type(config)()
    for section in SETTINGS.values():
        for name, setting in section.items():
            if isinstance(setting, Refused):
                attribute = setting.attribute or name
                value, default = (
                    setting.as_compared(getattr(each, attribute)) for each in (config, plain)
                )
                if value != default:
                    if isinstance(value, dict) and isinstance(default, dict):
                        key = next(
                            k
                            for k in {**value, **default}
                            if k not in value or k not in default or value[k] != default[k]
                        )
                        name, value, default = f"{key} in {name}", value.get(key), default.get(key)
                    raise MecError(
                        f"{name} must be {default!r} in {algorithm_name(config.algo_class)}, "
                        f"but is {value!r}: {setting.reason}"
                    )


def _is_searched(value: Any) -> bool:
    return _has_unresolved_values({"value": value})


def check_arguments(config: Any, section: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that RLlib would drop, or that have a value out of its bounds.

    Args:
        config: The algorithm's config.
        section: The section method that was called.
        arguments: What it was called with; search spaces of Tune's are left for their draws.

    Raises:
        MecError: As :func:`check_settings` or :func:`~rllib_mec.algorithms.bounds.check_bound`.
    """
    for name, value in arguments.items():
        if name in config.bounds and value is not NotProvided and not _is_searched(value):
            check_bound(name, value, config.bounds[name])
        setting = SETTINGS[section].get(name)
        if isinstance(setting, Removed):
            raise MecError(
                f"{algorithm_name(config.algo_class)} has no {name}, which is {value!r}: "
                f"{setting.reason}"
            )
