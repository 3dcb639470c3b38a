"""``rllib evaluate``: what a checkpoint is worth, by the paper's protocol or by greedy episodes."""

from __future__ import annotations

import json
from typing import Any

import click

from rllib_mec import registry, remote
from rllib_mec.algorithms.env_config import check_mdp
from rllib_mec.checkpoints import CheckpointInfo
from rllib_mec.cli import scenarios
from rllib_mec.cli.command import COUNT, JSON_OBJECT, NATURAL, OK, command, option, verbosity_option
from rllib_mec.errors import MecError
from rllib_mec.experiments import names, quiet
from rllib_mec.experiments.report import is_ours
from rllib_mec.experiments.restore import read_here

_HELP = """
Measure a trained policy. The algorithm and the environment are read from the checkpoint.

  rllib evaluate ~/ray_results/my-experiment
  rllib evaluate CHECKPOINT --episodes 500 --seed 1 --json

CHECKPOINT is a checkpoint, a trial's folder (its newest checkpoint) or an experiment's folder (its
best trial), or a URL of one (s3://bucket/folder). On this package's environments it prints the
paper's metrics beside local only; on any other the mean return of greedy episodes with its 95 %
interval.
"""

_EPISODES_OURS = 200
_EPISODES_OTHER = 20


@command(help=_HELP)
@click.argument("checkpoint")
@option("--episodes", type=COUNT, help="default 200 on ours, else 20")
@option("--seed", type=NATURAL, default=0)
@scenarios.num_tasks_option
@scenarios.placement_options
@scenarios.threads_option
@scenarios.search_option
@option("--json", "as_json", is_flag=True, help="print the numbers as JSON")
@option("-a", "-r", "--run", "--algo", "algo", help="check that this is the algorithm")
@option("-e", "--env", help="another environment than in training")
@option("--env-config", type=JSON_OBJECT, help="settings, merged into the training's")
@verbosity_option
def evaluate(
    checkpoint: str,
    episodes: int | None,
    seed: int,
    placement: dict[str, Any],
    num_threads: int,
    search: int | None,
    as_json: bool,
    algo: str | None,
    env: str | None,
    env_config: dict[str, Any] | None,
    verbosity: int,
) -> int:
    """Evaluate the checkpoint that the flags name and print the result."""
    quiet.set_environment()
    quiet.quieten(verbosity)
    info = read_here(checkpoint)
    if algo is not None and names.algorithm_class(algo) is not info.algorithm:
        own = registry.algorithm_name(info.algorithm)
        raise MecError(f"the checkpoint is of algorithm {own!r}, not {algo!r}")
    if "randomize" in (env_config or {}):
        raise MecError("randomize in --env-config is for training: give one scenario's settings")
    env = env or info.config.env
    merged = {**(info.config.env_config or {}), **(env_config or {})}
    if not is_ours(env):
        if any(placement.values()) or num_threads > 1 or search:
            raise MecError(
                "--num-tasks, --distance, --draw, --threads and --search are for this package's "
                f"environments, not for {getattr(env, '__name__', env)!r}"
            )
        env = names.environment(env, merged)
        record = _greedy(info, env, merged, episodes or _EPISODES_OTHER, seed)
        if as_json:
            print(json.dumps({**record, "return": record["return"].to_dict()}, indent=2))
        else:
            print(_sentence(record))
        return OK
    if info.config.env != env:  # its settings and shapes are those of its own MDP
        raise MecError(f"the checkpoint was trained on {info.config.env!r}, not on {env!r}")
    mdp = check_mdp(str(env), merged)
    scenarios.tell_remarks(mdp)
    scenarios.check_placement(placement, mdp.scenario.num_devices)
    from rllib_mec import evaluation
    from rllib_mec.policies import LocalOnly, Lookahead, load_policy

    trained = load_policy(str(info.path))
    policy = trained.on(mdp)
    scenarios.tell_changes(trained, mdp, checkpoint)
    searched = [Lookahead(policy, search, mdp=mdp, seed=seed)] if search else []
    evaluations = [
        evaluation.evaluate(
            each,
            mdp,
            episodes=episodes or _EPISODES_OURS,
            seed=seed,
            num_threads=num_threads,
            **placement,
        )
        for each in (LocalOnly(mdp), policy, *searched)
    ]
    if as_json:
        print(json.dumps([each.to_dict() for each in evaluations], indent=2))
    else:
        print(evaluation.comparison_table(evaluations, paper=True))
    return OK


def _greedy(
    info: CheckpointInfo, env: Any, env_config: dict[str, Any], count: int, seed: int
) -> dict[str, Any]:
    """The mean return of greedy episodes."""
    from rllib_mec.evaluation import Interval
    from rllib_mec.experiments.greedy import greedy_episodes

    returns, lengths = greedy_episodes(info, env, env_config, count, seed)
    return {
        "algorithm": registry.algorithm_name(info.algorithm),
        "env": getattr(env, "__name__", env),
        "checkpoint": remote.origin(info.path),
        "episodes": len(returns),
        "seed": seed,
        "return": Interval.of(returns),
        "length": sum(lengths) / len(lengths),
    }


def _sentence(record: dict[str, Any]) -> str:
    return (
        f"{record['algorithm']} on {record['env']}: return {record['return'].text(2)} (mean ± 95 % "
        f"interval over {record['episodes']} greedy episodes, seed {record['seed']}), "
        f"mean length {record['length']:.1f}"
    )
