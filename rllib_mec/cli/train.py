"""``rllib train``: the flags and the file become one experiment, which is then run."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from rllib_mec.cli.command import COUNT, JSON_OBJECT, NATURAL, command, option, verbosity_option
from rllib_mec.errors import MecError
from rllib_mec.experiments import experiment, quiet
from rllib_mec.experiments.messages import note
from rllib_mec.experiments.specification import CheckpointSettings, Specification

_HELP = """
Train an RLlib algorithm on an environment.

  rllib train file tuned_configs/emh_ppo.yaml
  rllib train file my_config.py --stop '{"training_iteration": 20}'
  rllib train --algo PPO --env CartPole-v1 --stop '{"env_runners/episode_return_mean": 400}'

A YAML file holds one experiment:

  my-experiment:
    run: PPO                      # or EMH-PPO, or my_package.my_module:MyAlgorithm
    env: CartPole-v1              # or mec_task_window_v0, or a class path
    stop: {training_iteration: 50}
    config:
      lr: {grid_search: [1e-4, 3e-4]}       # or {loguniform: [1e-5, 1e-3]}, {choice: [..]}, ...
    num_samples: 1
    checkpoint_config: {checkpoint_frequency: 10, num_to_keep: 3}

A Python file holds `config` (an AlgorithmConfig) and, if you like, `stop`. Flags override the file.
Ctrl-C writes a checkpoint; the same command with --resume goes on from it.
"""

_GONE = {
    "--local-mode": "Ray has no local mode any more; use --config '{\"num_env_runners\": 0}'",
    "--trace": "--trace was for TensorFlow, which RLlib no longer supports",
    "--resources-per-trial": "RLlib works out a trial's resources from num_env_runners",
}


def _refuse_gone(ctx: Any, param: click.Parameter, value: Any) -> None:
    if value is not None:
        raise MecError(_GONE[param.opts[0]])


def _gone(function: Any) -> Any:
    for flag in _GONE:
        function = option(
            flag, is_flag=False, flag_value="", hidden=True, expose_value=False,
            callback=_refuse_gone,
        )(function)  # fmt: skip
    return function


@command(help=_HELP, options_metavar="[file FILE] [OPTIONS]")
@click.argument("source", nargs=-1, metavar="")
# What to train. The names are those of the file's keys, and each flag overrides its key.
@option("-a", "-r", "--run", "--algo", "run", metavar="NAME", help="algorithm, or its class path")
@option("-e", "--env", metavar="ID", help="environment: an id or a class path")
@option("-c", "--config", type=JSON_OBJECT, help="config keys, merged into the file's")
@option("-s", "--stop", type=JSON_OBJECT, help="stop criteria, in place of the file's")
@option("-n", "--experiment-name", metavar="NAME", help="folder of the results")
@option("--num-samples", type=int, help="trials per grid point")
@option("--storage-path", metavar="DIR", help="default ~/ray_results")
@option("--restore", metavar="CHECKPOINT", help="start a new run from this state")
@option("--scheduler", metavar="NAME", help="fifo, async_hyperband, pbt, ...")
@option("--scheduler-config", type=JSON_OBJECT, help="arguments of the scheduler")
@option("--framework", help="only torch is left in RLlib")
# Checkpoints.
@option("--resume", is_flag=True, help="go on with the same experiment")
@option(
    "--checkpoint-freq", "checkpoint_frequency", type=int,
    help="checkpoint every N iterations (default: every 5 minutes, the newest 3)",
)  # fmt: skip
@option("--checkpoint-at-end/--no-checkpoint-at-end", default=None, help="default: yes")
@option("--keep-checkpoints-num", "num_to_keep", type=int, help="keep the best N")
@option(
    "--checkpoint-score-attr", "checkpoint_score_attribute", metavar="KEY",
    help="result key of 'best'; min-KEY: lower is better",
)  # fmt: skip
# Ray.
@option("--ray-address", metavar="ADDRESS", help="use this cluster; auto finds one")
@option("--ray-num-cpus", type=COUNT, help="CPUs of a Ray of our own")
@option("--ray-num-gpus", type=NATURAL, help="GPUs likewise")
@option("--ray-num-nodes", type=COUNT, help="emulate a cluster here")
@option("--ray-object-store-memory", type=COUNT, metavar="BYTES")
@option("--ray-ui", "ray_dashboard", is_flag=True, help="start Ray's dashboard")
# Logging.
@option("--wandb-key", metavar="KEY", help="log to Weights & Biases")
@option("--wandb-project", metavar="NAME", help="default: the experiment's name")
@option("--wandb-run-name", metavar="NAME")
@verbosity_option
# Old names, which the experiment's own keys translate.
@option("--local-dir", hidden=True)
@option("--upload-dir", hidden=True)
@_gone
@click.pass_obj
def train(argv: list[str], source: tuple[str, ...], **flags: Any) -> int:
    """Check what the user gave, then train."""
    quiet.set_environment()  # before a Python file imports Ray
    name, spec = _base(source, flags)
    _override(spec, flags)
    verbosity = flags["verbosity"]
    quiet.quieten(verbosity)
    notes: list[str] = []  # said only once all is well: an error stays the only line
    checked = experiment.check(flags["experiment_name"] or name, spec, notes.append)
    for message in notes:
        note(message)
    callbacks = _wandb(flags, checked.name)

    from rllib_mec.experiments import training
    from rllib_mec.experiments.ray_session import RayOptions

    fields = (f.name for f in dataclasses.fields(RayOptions) if f.name != "runtime_env")
    ray_options = {name: flags[f"ray_{name}"] for name in fields}
    return training.run(
        checked,
        RayOptions(**ray_options),
        resume=flags["resume"],
        verbosity=verbosity,
        callbacks=callbacks,
        argv=argv,
    )


def _base(source: tuple[str, ...], flags: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and specification to start from: the file's, or empty for the flags form."""
    if source and source[0] == "file":
        if len(source) != 2:
            raise MecError(f"`rllib train file` takes one file, got {len(source) - 1}")
        return experiment.read_spec(source[1])
    if source:
        hint = f": did you mean `rllib train file {source[0]}`?" if "." in source[0] else ""
        raise MecError(f"unexpected argument {source[0]!r}{hint}")
    if flags["run"] is None:
        raise MecError("give a file (`rllib train file FILE`) or --algo and --env")
    return "default", {}


def _override(spec: dict[str, Any], flags: dict[str, Any]) -> None:
    """Put the flags over the file's specification."""
    given = {key: value for key, value in flags.items() if value is not None}
    if given.get("framework", "torch") != "torch":
        raise MecError(f"--framework {given['framework']}: RLlib 2.60 has only torch")
    settings = spec.get("config") or {}
    if extra := given.pop("config", {}):
        if not isinstance(settings, dict):
            raise MecError(
                "--config does not work with a Python file's AlgorithmConfig: change the file"
            )
        for key in ("env_config", "model_config"):  # merged key by key
            if isinstance(settings.get(key), dict) and isinstance(extra.get(key), dict):
                extra[key] = {**settings[key], **extra[key]}
        spec["config"] = {**settings, **extra}
    keys = {*Specification.model_fields, "local_dir", "upload_dir"}
    spec |= {key: value for key, value in given.items() if key in keys}
    of_checkpoints = given.keys() & CheckpointSettings.model_fields.keys()
    if of_checkpoints:
        existing = spec.get("checkpoint_config") or {}
        if not isinstance(existing, dict):
            raise MecError(f"checkpoint_config must be a mapping, got {existing!r}")
        spec["checkpoint_config"] = {**existing, **{key: given[key] for key in of_checkpoints}}


def _wandb(flags: dict[str, Any], name: str) -> list[Any]:
    """The Weights & Biases logger, if asked for."""
    if flags["wandb_key"] is None:
        if flags["wandb_project"] or flags["wandb_run_name"]:
            raise MecError("--wandb-project and --wandb-run-name need --wandb-key")
        return []
    try:
        import wandb  # noqa: F401  # pyright: ignore  # only to say clearly that it is missing
        from ray.air.integrations.wandb import WandbLoggerCallback
    except ImportError:
        raise MecError("--wandb-key needs `pip install wandb`") from None
    extra = {"name": flags["wandb_run_name"]} if flags["wandb_run_name"] else {}
    project = flags["wandb_project"] or name
    return [WandbLoggerCallback(api_key=flags["wandb_key"], project=project, **extra)]
