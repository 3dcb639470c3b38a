"""``rllib train``: the flags and the file become one experiment, which is then run."""

from __future__ import annotations

import argparse
from typing import Any

from rllib_mec.errors import MecError
from rllib_mec.experiments import documents, experiment, quiet
from rllib_mec.experiments.messages import note

_GONE = {
    "local_mode": "Ray has no local mode any more; use --config '{\"num_env_runners\": 0}'",
    "trace": "--trace was for TensorFlow, which RLlib no longer supports",
    "resources_per_trial": "RLlib works out a trial's resources from num_env_runners and the like",
}


def train(args: argparse.Namespace, argv: list[str], verbosity: int) -> int:
    """Check what the user gave, then train.

    Args:
        args: The parsed flags.
        argv: The command line as given, to say how to resume.
        verbosity: 0, 1 or 2.

    Returns:
        The exit code.

    Raises:
        MecError: Bad input.
    """
    name, spec = _base(args)
    _override(spec, args)
    ray_options = {
        key: getattr(args, f"ray_{key}")
        for key in ("address", "num_cpus", "num_gpus", "num_nodes", "object_store_memory")
    }
    for key, value in ray_options.items():
        if isinstance(value, int) and value < (0 if key == "num_gpus" else 1):
            raise MecError(f"--ray-{key.replace('_', '-')} must be positive, got {value}")
    quiet.quieten(verbosity)
    notes: list[str] = []  # said only once all is well: an error stays the only line
    checked = experiment.check(args.experiment_name or name, spec, notes.append)
    for message in notes:
        note(message)
    callbacks = _wandb(args, checked.name)

    from rllib_mec.experiments import training
    from rllib_mec.experiments.ray_session import RayOptions

    return training.run(
        checked,
        RayOptions(dashboard=args.ray_ui, **ray_options),
        resume=args.resume,
        verbosity=verbosity,
        callbacks=callbacks,
        argv=argv,
    )


def _base(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The name and specification to start from: the file's, or empty for the flags form."""
    source = args.source
    if source and source[0] == "file":
        if len(source) != 2:
            raise MecError(f"`rllib train file` takes one file, got {len(source) - 1}")
        return experiment.read_spec(source[1])
    if source:
        hint = f": did you mean `rllib train file {source[0]}`?" if "." in source[0] else ""
        raise MecError(f"unexpected argument {source[0]!r}{hint}")
    if args.algo is None:
        raise MecError("give a file (`rllib train file FILE`) or --algo and --env")
    return "default", {"run": args.algo, "env": args.env}


def _override(spec: dict[str, Any], args: argparse.Namespace) -> None:
    """Put the flags over the file's specification."""
    for flag, message in _GONE.items():
        if getattr(args, flag):
            raise MecError(message)
    if args.framework not in (None, "torch"):
        raise MecError(f"--framework {args.framework}: RLlib 2.60 has only torch")
    plain = {
        "run": args.algo,
        "env": args.env,
        "num_samples": args.num_samples,
        "storage_path": args.storage_path or args.local_dir or args.upload_dir,
        "restore": args.restore,
        "scheduler": args.scheduler,
    }
    spec.update({key: value for key, value in plain.items() if value is not None})
    if args.local_dir or args.upload_dir:
        note("--local-dir and --upload-dir are now --storage-path")
    if args.stop is not None:
        spec["stop"] = documents.read_json_object("--stop", args.stop)
    if args.scheduler_config is not None:
        spec["scheduler_config"] = documents.read_json_object(
            "--scheduler-config", args.scheduler_config
        )
    if args.config is not None:
        _merge_config(spec, documents.read_json_object("--config", args.config))
    checkpoints = {
        "checkpoint_frequency": args.checkpoint_freq,
        "checkpoint_at_end": args.checkpoint_at_end,
        "num_to_keep": args.keep_checkpoints_num,
        "checkpoint_score_attribute": args.checkpoint_score_attr,
    }
    checkpoints = {key: value for key, value in checkpoints.items() if value is not None}
    if checkpoints:
        existing = spec.get("checkpoint_config") or {}
        if not isinstance(existing, dict):
            raise MecError(f"checkpoint_config must be a mapping, got {existing!r}")
        spec["checkpoint_config"] = {**existing, **checkpoints}


def _merge_config(spec: dict[str, Any], extra: dict[str, Any]) -> None:
    """Merge ``--config`` into the file's config; ``env_config`` key by key."""
    config = spec.get("config") or {}
    if not isinstance(config, dict):
        raise MecError(
            "--config does not work with a Python file's AlgorithmConfig: change the file"
        )
    merged = {**config, **extra}
    for key in ("env_config", "model_config"):
        if isinstance(config.get(key), dict) and isinstance(extra.get(key), dict):
            merged[key] = {**config[key], **extra[key]}
    spec["config"] = merged


def _wandb(args: argparse.Namespace, name: str) -> list[Any]:
    """The Weights & Biases logger, if asked for."""
    if args.wandb_key is None:
        if args.wandb_project or args.wandb_run_name:
            raise MecError("--wandb-project and --wandb-run-name need --wandb-key")
        return []
    try:
        import wandb  # noqa: F401  # pyright: ignore  # only to say clearly that it is missing
        from ray.air.integrations.wandb import WandbLoggerCallback
    except ImportError:
        raise MecError("--wandb-key needs `pip install wandb`") from None
    extra = {"name": args.wandb_run_name} if args.wandb_run_name else {}
    return [
        WandbLoggerCallback(api_key=args.wandb_key, project=args.wandb_project or name, **extra)
    ]
