"""``rllib evaluate``: what a checkpoint is worth, by the paper's protocol or by greedy episodes."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rllib_mec.checkpoints import CheckpointInfo
from rllib_mec.errors import MecError
from rllib_mec.experiments import documents, names, quiet
from rllib_mec.experiments.report import is_ours
from rllib_mec.experiments.restore import read_here

_EPISODES_OURS = 200
_EPISODES_OTHER = 20


def evaluate(args: argparse.Namespace, verbosity: int) -> int:
    """Evaluate the checkpoint that the flags name and print the result.

    Args:
        args: The parsed flags.
        verbosity: 0, 1 or 2.

    Returns:
        The exit code.

    Raises:
        MecError: No checkpoint, or it does not fit the environment or algorithm given.
    """
    if args.episodes is not None and args.episodes < 1:
        raise MecError(f"--episodes must be at least 1, got {args.episodes}")
    env_config = (
        documents.read_json_object("--env-config", args.env_config) if args.env_config else {}
    )
    quiet.quieten(verbosity)
    info = read_here(args.checkpoint)
    if args.algo is not None and names.algorithm_class(args.algo) is not info.algorithm:
        own = names.algorithm_name(info.algorithm)
        raise MecError(f"the checkpoint is of algorithm {own!r}, not {args.algo!r}")
    env = args.env or info.config.env
    merged = {**(info.config.env_config or {}), **env_config}
    if is_ours(env):
        if info.config.env != env:  # its settings and shapes are those of its own MDP
            raise MecError(f"the checkpoint was trained on {info.config.env!r}, not on {env!r}")
        return _evaluate_ours(info, env, merged, args)
    env = names.environment(env, merged)
    return _evaluate_other(info, env, merged, args)


def _evaluate_ours(info: CheckpointInfo, env: str, env_config: dict[str, Any], args: Any) -> int:
    """The paper's metrics beside local only."""
    mdp = names.check_mdp(env, env_config)
    from rllib_mec import evaluation
    from rllib_mec.policies import LocalOnly, load_policy

    policy = load_policy(str(info.path))
    episodes = args.episodes or _EPISODES_OURS
    evaluations = [
        # The trained one first: it says if the MDP is not one of its own shape.
        evaluation.evaluate(each, mdp, episodes=episodes, seed=args.seed)
        for each in (policy, LocalOnly(mdp))
    ][::-1]
    if args.json:
        print(json.dumps([each.to_dict() for each in evaluations], indent=2))
    else:
        print(evaluation.comparison_table(evaluations, paper=True))
    return 0


def _evaluate_other(info: CheckpointInfo, env: Any, env_config: dict[str, Any], args: Any) -> int:
    """The mean return of greedy episodes."""
    from rllib_mec.evaluation import Interval
    from rllib_mec.experiments.greedy import greedy_episodes

    count = args.episodes or _EPISODES_OTHER
    returns, lengths = greedy_episodes(info, env, env_config, count, args.seed)
    interval = Interval.of(returns)
    length = sum(lengths) / len(lengths)
    algorithm, env_name = names.algorithm_name(info.algorithm), getattr(env, "__name__", env)
    if args.json:
        record = {
            "algorithm": algorithm,
            "env": env_name,
            "checkpoint": str(info.path),
            "episodes": len(returns),
            "seed": args.seed,
            "return": interval.to_dict(),
            "length": length,
        }
        print(json.dumps(record, indent=2))
    else:
        print(
            f"{algorithm} on {env_name}: return {interval.text(2)} "
            f"(mean ± 95 % interval over {len(returns)} greedy episodes, seed {args.seed}), "
            f"mean length {length:.1f}"
        )
    return 0
