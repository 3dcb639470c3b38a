"""``rllib train``: the flags and the file become one experiment, which is then run."""

from __future__ import annotations

import dataclasses
from typing import Any

import click
from pydantic import Json

from rllib_mec.cli.command import (
    COUNT,
    JSON_OBJECT,
    NATURAL,
    POSITIVE,
    command,
    option,
    verbosity_option,
)
from rllib_mec.errors import MecError
from rllib_mec.experiments import experiment, quiet
from rllib_mec.experiments.messages import note
from rllib_mec.experiments.specification import CheckpointSettings, Specification
from rllib_mec.network.checks import checked

_HELP = """
Train an RLlib algorithm on an environment.

  rllib train file tuned_configs/emh_ppo.yaml
  rllib train file my_config.py --stop '{"training_iteration": 20}'
  rllib train --algo PPO --env CartPole-v1 --stop '{"env_runners/episode_return_mean": 400}'

A YAML file (or the URL of one) holds one experiment, or several that are trained in turn:

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
    "--eager": "--eager was for TensorFlow, which RLlib no longer supports",
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
@option("-f", "--config-file", metavar="FILE", help="as `file FILE`")
@option("-c", "--config", type=JSON_OBJECT, help="config keys, merged into the file's")
@option("-s", "--stop", type=JSON_OBJECT, help="stop criteria, in place of the file's")
@option("-n", "--experiment-name", metavar="NAME", help="folder of the results")
@option("--num-samples", type=int, help="trials per grid point")
@option("--storage-path", metavar="DIR", help="default ~/ray_results")
@option("--restore", metavar="CHECKPOINT", help="start a new run from this state")
@option("--scheduler", metavar="NAME", help="fifo, async_hyperband, pbt, ...")
@option("--scheduler-config", type=JSON_OBJECT, help="arguments of the scheduler")
@option("--search-alg", metavar="NAME", help="optuna, hyperopt, bohb, ...")
@option("--search-alg-config", type=JSON_OBJECT, help="arguments of the search algorithm")
@option("--metric", metavar="KEY", help="result key that tells good trials (default: return)")
@option("--mode", metavar="max|min", help="which end of it is good (default: max)")
@option("--max-concurrent-trials", type=COUNT, help="trials at a time")
@option("--time-budget-s", type=POSITIVE, help="seconds after which all trials end")
@option("--max-failures", type=int, help="how often a trial is tried again; -1: always")
@option("--fail-fast", is_flag=True, default=None, help="end all at the first failure")
@option("--reuse-actors", is_flag=True, default=None, help="trials take over processes")
@option("--resources-per-trial", type=JSON_OBJECT, help='in all, as {"cpu": 4, "gpu": 1}')
@option("--runtime-env", type=JSON_OBJECT, help="Ray's runtime environment of the workers")
@option(
    "--callbacks", multiple=True, metavar="CLASS...",
    help="Tune's callbacks: class paths, or JSON {class path: {argument: value}}",
)  # fmt: skip
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
@option("--torch", is_flag=True, hidden=True, expose_value=False)  # there is nothing else
@option("--queue-trials", is_flag=True, hidden=True, expose_value=False)  # Tune always does
@_gone
@click.pass_obj
def train(argv: list[str], source: tuple[str, ...], **flags: Any) -> int:
    """Check what the user gave, then train."""
    quiet.set_environment()  # before a Python file imports Ray
    specs = _base(source, flags)
    if flags["experiment_name"]:
        if len(specs) > 1:
            raise MecError(
                f"--experiment-name names one experiment, the file has {len(specs)}: "
                f"{', '.join(specs)}"
            )
        specs = dict.fromkeys([flags["experiment_name"]], *specs.values())
    verbosity = flags["verbosity"]
    quiet.quieten(verbosity)
    notes: list[str] = []  # said only once all is well: an error stays the only line
    experiments = []
    for name, spec in specs.items():
        _override(spec, flags)
        try:
            experiments.append(experiment.check(name, spec, notes.append))
        except MecError as error:
            raise MecError(f"{name}: {error}" if len(specs) > 1 else error) from None
    callbacks = [_wandb(flags, each.name) for each in experiments]
    for message in dict.fromkeys(notes):
        note(message)

    from rllib_mec.experiments import training
    from rllib_mec.experiments.ray_session import RayOptions

    fields = (f.name for f in dataclasses.fields(RayOptions) if f.name != "runtime_env")
    return training.run_all(
        experiments,
        RayOptions(**{name: flags[f"ray_{name}"] for name in fields}),
        resume=flags["resume"],
        verbosity=verbosity,
        callbacks=callbacks,
        argv=argv,
    )


def _base(source: tuple[str, ...], flags: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Names and specifications to start from: the file's, or an empty one for the flags form."""
    file = flags["config_file"]
    if source and source[0] == "file":
        if len(source) != 2:
            raise MecError(f"`rllib train file` takes one file, got {len(source) - 1}")
        if file is not None:
            raise MecError(f"give one file: {source[1]!r}, or -f {file!r}")
        return experiment.read_specs(source[1])
    if source:
        hint = f": did you mean `rllib train file {source[0]}`?" if "." in source[0] else ""
        raise MecError(f"unexpected argument {source[0]!r}{hint}")
    if file is not None:
        return experiment.read_specs(file)
    if flags["run"] is None:
        raise MecError("give a file (`rllib train file FILE`) or --algo and --env")
    return {"default": {}}


def _override(spec: dict[str, Any], flags: dict[str, Any]) -> None:
    """Put the flags over the file's specification."""
    given = {key: value for key, value in flags.items() if value not in (None, ())}
    if given.get("framework", "torch") != "torch":
        raise MecError(f"--framework {given['framework']}: RLlib 2.60 has only torch")
    settings = spec.get("config") or {}
    if extra := dict(given.pop("config", {})):
        if not isinstance(settings, dict):
            raise MecError(
                "--config does not work with a Python file's AlgorithmConfig: change the file"
            )
        for key in ("env_config", "model_config"):  # merged key by key
            if isinstance(settings.get(key), dict) and isinstance(extra.get(key), dict):
                extra[key] = {**settings[key], **extra[key]}
        spec["config"] = {**settings, **extra}
    if "callbacks" in given:
        given["callbacks"] = [
            checked("--callbacks", path, Json[dict[str, dict[str, Any]]], texts=True)
            if path.startswith("{")
            else path
            for path in given["callbacks"]
        ]
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
