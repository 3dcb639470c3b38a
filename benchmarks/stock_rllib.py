"""What RLlib's own algorithms can do with our environments: each cell tried, on this machine.

    python benchmarks/stock_rllib.py                # all cells, about 15 minutes on 2 cores
    python benchmarks/stock_rllib.py --only PPO SAC # of some algorithms, printed alone

It writes ``benchmarks/results/stock_rllib.md``. A cell "works" if it has sampled, learned and,
where it says so, evaluated, restored or run elsewhere.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import logging
import os
import pathlib
import tempfile
import warnings
from typing import Any

os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray.rllib.algorithms.registry import ALGORITHMS
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from rllib_mec.algorithms.multi_agent_env import one_policy_for_all
from rllib_mec.algorithms.stock_checks import check_restore, check_stock
from rllib_mec.errors import MecError, one_line
from rllib_mec.plugin import make_rllib_env

PAGE = pathlib.Path(__file__).parent / "results" / "stock_rllib.md"

ENV = "mec_task_window_v0"
SMALL = {"num_devices": 2, "mean_tasks": 6.0}
VIEWS: dict[str, dict[str, Any]] = {
    "dict": {},
    "flat": {"actions": "flat"},
    "continuous": {"actions": "continuous", "fixed_partition": 0},
}
ON_POLICY = ("PPO", "APPO", "IMPALA")
OFF_POLICY = ("SAC", "DQN")
OFFLINE = ("BC", "MARWIL")
WHATS = ("training", "greedy evaluation", "LSTM", "restore", "remote env runner", "remote learner")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One thing to try.

    Attributes:
        algorithm: RLlib's name of it.
        view: A key of :data:`VIEWS`.
        what: One of :data:`WHATS`.
    """

    algorithm: str
    view: str
    what: str


def config_of(cell: Cell) -> Any:
    """The algorithm's config, as small as it can be.

    Args:
        cell: What to try.
    """
    config = ALGORITHMS[cell.algorithm]()[1].copy(copy_frozen=False)
    config.environment(ENV, env_config={**SMALL, **VIEWS[cell.view]})
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=1)
    config.multi_agent(policies={"shared"}, policy_mapping_fn=one_policy_for_all)
    config.training(train_batch_size_per_learner=64)
    if cell.algorithm == "PPO":
        config.training(num_epochs=1, minibatch_size=32)
    if cell.algorithm in OFF_POLICY:
        buffer = {"SAC": "MultiAgentEpisodeReplayBuffer"}.get(
            cell.algorithm, "MultiAgentPrioritizedEpisodeReplayBuffer"
        )
        config.training(
            num_steps_sampled_before_learning_starts=32,
            train_batch_size_per_learner=32,
            replay_buffer_config={"type": buffer, "capacity": 1000},
        )
        config.env_runners(rollout_fragment_length=4)
    if cell.what == "greedy evaluation":
        config.evaluation(
            evaluation_interval=1,
            evaluation_duration=1,
            evaluation_num_env_runners=0,
            evaluation_config={"explore": False},
        )
    if cell.what == "LSTM":
        config.rl_module(model_config=DefaultModelConfig(use_lstm=True, max_seq_len=8))
    if cell.what == "remote env runner":
        config.env_runners(num_env_runners=1)
    if cell.what == "remote learner":
        config.learners(num_learners=1)
    return config


def offline_config_of(cell: Cell, recorded: str) -> Any:
    """The config of an algorithm that learns from recorded episodes of single MDs.

    RLlib reads episodes of one agent only, so what one MD saw and did is an episode.

    Args:
        cell: What to try.
        recorded: Where they are, see :func:`record`.
    """
    env = make_rllib_env(ENV, {**SMALL, **VIEWS[cell.view]})
    config = ALGORITHMS[cell.algorithm]()[1].copy(copy_frozen=False)
    config.environment(
        observation_space=env.observation_spaces["md_0"], action_space=env.action_spaces["md_0"]
    )
    config.offline_data(
        input_=[recorded],
        input_read_method="read_parquet",
        map_batches_kwargs={"concurrency": 1},
        iter_batches_kwargs={"prefetch_batches": 1},
        dataset_num_iters_per_learner=1,
    )
    config.training(train_batch_size_per_learner=32)
    if cell.what == "LSTM":
        config.rl_module(model_config=DefaultModelConfig(use_lstm=True, max_seq_len=8))
    if cell.what == "remote learner":
        config.learners(num_learners=1)
    return config


def record(view: str, folder: str) -> str:
    """Record episodes of a random policy, MD by MD, in the form that RLlib reads.

    Args:
        view: A key of :data:`VIEWS`.
        folder: Where to.

    Returns:
        The file's path.
    """
    import numpy as np
    import pandas
    import tree
    from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

    runner: Any = MultiAgentEnvRunner(
        config=config_of(Cell("PPO", view, "training")), worker_index=0, num_workers=0
    )
    episodes = runner.sample(num_episodes=8, random_actions=True)
    runner.stop()
    rows = []
    for episode in episodes:
        for single in episode.agent_episodes.values():
            observations = single.get_observations()
            for t in range(len(single)):
                action = single.get_actions(t)
                rows.append(
                    {
                        "eps_id": single.id_,
                        "obs": observations[t].tolist(),
                        "actions": tree.map_structure(lambda v: np.asarray(v).tolist(), action),
                        "rewards": float(single.get_rewards(t)),
                        "new_obs": observations[t + 1].tolist(),
                        "terminateds": single.is_terminated and t == len(single) - 1,
                        "truncateds": False,
                    }
                )
    path = str(pathlib.Path(folder) / f"{view}.parquet")
    pandas.DataFrame(rows).to_parquet(path)
    return path


def try_cell(cell: Cell, recorded: dict[str, str]) -> str:
    """Try a cell.

    Args:
        cell: What to try.
        recorded: View -> recorded episodes.

    Returns:
        ``"works"``, ``"refused: ..."`` or ``"fails in Ray: ..."``.
    """
    offline = cell.algorithm in OFFLINE
    try:
        config = offline_config_of(cell, recorded[cell.view]) if offline else config_of(cell)
        check_stock(config)
        if cell.what == "restore":
            check_restore(config)
        with contextlib.closing(_Running(config)) as running:
            running.learn(steps=12 if cell.algorithm in OFF_POLICY else 3)
            if cell.what == "greedy evaluation" and not running.evaluated:
                return "fails in Ray: no evaluation result"
            if cell.what == "restore":
                running.restore()
            return "works" if running.learned else "fails in Ray: it has learned nothing"
    except MecError as error:
        return f"refused: {one_line(error)}"
    except Exception as error:  # the very thing to be measured
        return f"fails in Ray: {one_line(error)}"


class _Running:
    """An algorithm that runs.

    Args:
        config: Its config.
    """

    def __init__(self, config: Any):
        self._config = config
        self._algorithm = config.copy(copy_frozen=False).build_algo()
        self.learned = self.evaluated = False

    def learn(self, steps: int) -> None:
        for _ in range(steps):
            result = self._algorithm.train()
            modules = {key: value for key, value in result.get("learners", {}).items()}
            self.learned |= any(key in modules for key in ("shared", "default_policy"))
            evaluation = result.get("evaluation", {}).get("env_runners", {})
            self.evaluated |= "episode_return_mean" in evaluation

    def restore(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._algorithm.save_to_path(folder)
            self._algorithm.stop()
            self._algorithm = self._config.copy(copy_frozen=False).build_algo()
            self._algorithm.restore_from_path(folder)
        self.learned = False
        self.learn(2)

    def close(self) -> None:
        self._algorithm.stop()


def cells(algorithms: list[str]) -> list[Cell]:
    """All that there is to try.

    Args:
        algorithms: RLlib's names.
    """
    views = {"PPO": tuple(VIEWS), "SAC": tuple(VIEWS)}
    return [
        Cell(algorithm, view, what)
        for algorithm in algorithms
        for view in views.get(algorithm, ("dict", "flat"))
        for what in WHATS
        if algorithm not in OFFLINE or what not in ("greedy evaluation", "remote env runner")
    ]


def page(outcomes: dict[Cell, str]) -> str:
    """The table in Markdown, with what was refused or failed below it.

    Args:
        outcomes: What came of each cell.
    """
    notes: dict[str, int] = {}
    rows: dict[tuple[str, str], dict[str, str]] = collections.defaultdict(dict)
    for cell, outcome in outcomes.items():
        head, _, detail = outcome.partition(": ")
        mark = f" [{notes.setdefault(outcome, len(notes) + 1)}]" if detail else ""
        rows[cell.algorithm, cell.view][cell.what] = f"{head}{mark}"
    lines = [
        "# RLlib's own algorithms on our environments",
        "",
        f"Ray {ray.__version__}, `{ENV}`, one shared policy, 2 MDs;",
        "`python benchmarks/stock_rllib.py`. `actions` is the view of",
        "`rllib_mec/envs/action_views.py`. BC and MARWIL learn from recorded episodes of single",
        "MDs, as RLlib reads no episodes of several agents; without an environment they neither",
        "sample nor evaluate. What is refused is refused by `rllib train` before it starts; in",
        "Python by `check_stock(config)` of `rllib_mec/algorithms/stock_checks.py`, if asked.",
        "",
        f"| algorithm | `actions` | {' | '.join(WHATS)} |",
        f"|---|---|{'---|' * len(WHATS)}",
        *(
            f"| {algorithm} | {view} | {' | '.join(row.get(what, '–') for what in WHATS)} |"
            for (algorithm, view), row in rows.items()
        ),
        "",
        *(f"{number}. {outcome}" for outcome, number in notes.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Try all cells and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [*ON_POLICY, *OFF_POLICY, *OFFLINE]
    parser.add_argument("--only", nargs="+", choices=known, help="algorithms (default all)")
    arguments = parser.parse_args()
    quiet()
    outcomes: dict[Cell, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        recorded = {view: record(view, folder) for view in VIEWS}
        for cell in cells(arguments.only or known):
            outcomes[cell] = try_cell(cell, recorded)
            print(cell.algorithm, cell.view, cell.what, "->", outcomes[cell], flush=True)
    ray.shutdown()
    if arguments.only is None:
        PAGE.write_text(page(outcomes))
        print(f"wrote {PAGE}")


def quiet() -> None:
    """Start Ray without its messages."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="CRITICAL",
    )


if __name__ == "__main__":
    main()
