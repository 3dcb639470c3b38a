"""Speed, side by side in one run: EMH-PPO with its own EnvRunner, stock RLlib, a bare PPO loop.

Every row runs alone in a process of its own, with one torch thread unless it says otherwise, on
Table III's scenario, with 2048 task windows a batch, 4 epochs, minibatches of 512. Rows of training
count sampling and update. The last three say what a second core is best used for.

    python benchmarks/throughput.py [--repeats 3] [--only NAME ...]

About 10 minutes on 2 cores. It writes ``results/throughput.md`` and ``results/throughput.csv``.
"""

from __future__ import annotations

import argparse
import csv
import os
import pathlib
import subprocess
import sys
import time

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
BATCH, MINIBATCH, EPOCHS = 2048, 512, 4


def env_alone(num_devices: int, num_envs: int = 256) -> float:
    """Windows per second of the batched env under random actions drawn beforehand."""
    from rllib_mec.envs import TaskWindowMDP
    from rllib_mec.network.scenario import Scenario
    from rllib_mec.policies import RandomPolicy

    scenario = Scenario(num_devices=num_devices)
    worlds = TaskWindowMDP(scenario).make(num_envs)
    policy = RandomPolicy(scenario)
    observation = worlds.reset()
    actions = [policy.decide(observation) for _ in range(16)]
    for action in actions:
        worlds.step(action)
    steps = 0
    start = time.perf_counter()
    while time.perf_counter() - start < 5.0:
        for action in actions:
            worlds.step(action)
        steps += len(actions) * num_envs
    return steps / (time.perf_counter() - start)


def emh_ppo(num_threads: int = 1, num_env_runners: int = 0, num_learners: int = 0) -> float:
    """Training env steps per second of EMH-PPO, with the same worlds and batches in all."""
    import torch

    from rllib_mec.algorithms.emh_ppo import EMHPPOConfig

    torch.set_num_threads(num_threads)
    config = (
        EMHPPOConfig()
        .environment("mec_task_window_v0")
        .env_runners(
            num_env_runners=num_env_runners,
            num_envs_per_env_runner=128 // max(num_env_runners, 1),
        )
        .learners(num_learners=num_learners)
        .training(
            train_batch_size_per_learner=BATCH // max(num_learners, 1),
            minibatch_size=MINIBATCH // max(num_learners, 1),
        )
        .debugging(seed=0)
    )
    return _train(config, iterations=10)


def stock_ppo(num_envs: int) -> float:
    """Training env steps per second of stock PPO with one policy for all MDs."""
    from ray.rllib.algorithms.ppo import PPOConfig

    from rllib_mec.algorithms.multi_agent_env import one_policy_for_all

    config = (
        PPOConfig()
        .environment("mec_task_window_v0")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=num_envs)
        .multi_agent(policies={"shared"}, policy_mapping_fn=one_policy_for_all)
        .training(train_batch_size_per_learner=BATCH, minibatch_size=MINIBATCH, num_epochs=EPOCHS)
        .rl_module(model_config={"fcnet_hiddens": [512, 256, 256, 128, 64]})
        .debugging(seed=0)
    )
    return _train(config, iterations=1 if num_envs == 1 else 3)


def _train(config, iterations: int) -> float:
    algorithm = config.build_algo()
    before = algorithm.train()
    start = time.perf_counter()
    for _ in range(iterations):
        result = algorithm.train()
    seconds = time.perf_counter() - start
    key = "num_env_steps_sampled_lifetime"
    return (result["env_runners"][key] - before["env_runners"][key]) / seconds


def bare_loop() -> float:
    """Training env steps per second of ``bare_ppo.py``."""
    from bare_ppo import train

    return train(num_iterations=10)


ROWS = {
    "env alone, N=3, 256 worlds": lambda: env_alone(3),
    "env alone, N=64, 256 worlds": lambda: env_alone(64),
    "EMH-PPO, own EnvRunner, 128 worlds": lambda: emh_ppo(),
    "bare PPO loop, 128 worlds": bare_loop,
    "stock PPO, stock runner, 1 env (default)": lambda: stock_ppo(1),
    "stock PPO, stock runner, 16 envs": lambda: stock_ppo(16),
    "stock PPO, stock runner, 64 envs": lambda: stock_ppo(64),
    "EMH-PPO, 2 torch threads": lambda: emh_ppo(num_threads=2),
    "EMH-PPO, 2 remote env runners": lambda: emh_ppo(num_env_runners=2),
    "EMH-PPO, 2 remote learners": lambda: emh_ppo(num_learners=2),
}
OURS = "EMH-PPO, own EnvRunner, 128 worlds"


def main() -> int:
    """Run every row in a subprocess; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        import torch

        import rllib_mec  # noqa: F401 - registers the env

        torch.set_num_threads(1)
        print("RATE", ROWS[args.row]())
        return 0

    rates: dict[str, list[float]] = {name: [] for name in args.only}
    start = time.perf_counter()
    total = args.repeats * len(rates)
    # Round by round, so that a slow minute of the machine hits all rows alike.
    for i, name in enumerate(list(rates) * args.repeats):
        output = subprocess.run(
            [sys.executable, __file__, "--row", name],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in output.stdout.splitlines() if line.startswith("RATE ")]
        if not lines:
            print(output.stderr[-2000:], file=sys.stderr)
            return 1
        rates[name].append(float(lines[-1].split()[1]))
        elapsed = time.perf_counter() - start
        eta = elapsed / (i + 1) * (total - i - 1)
        print(f"[{i + 1}/{total}] {name}: {rates[name][-1]:,.0f}/s  ETA {eta:.0f} s", flush=True)
    _write(rates, args.repeats)
    return 0


def _write(rates: dict[str, list[float]], repeats: int) -> None:
    from machine import describe_machine

    from rllib_mec.evaluation import Interval

    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "throughput.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *(f"run_{i}_per_s" for i in range(repeats))])
        writer.writerows([name, *(f"{v:.1f}" for v in values)] for name, values in rates.items())
    lines = [
        "# Throughput",
        "",
        f"Windows (env steps) per second, mean ± 95 % interval of {repeats} runs. "
        f"Command: `python benchmarks/throughput.py --repeats {repeats}`. "
        f"Machine: {describe_machine()}, one torch thread unless a row says otherwise.",
        "",
        "| what | per second | EMH-PPO is … times as fast |",
        "|---|---|---|",
    ]
    ours = Interval.of(rates[OURS]).mean if OURS in rates else None
    for name, values in rates.items():
        interval = Interval.of(values)
        ratio = "" if ours is None or "alone" in name else f"{ours / interval.mean:.2f}"
        lines.append(f"| {name} | {interval.mean:,.0f} ± {interval.half_width:,.0f} | {ratio} |")
    text = "\n".join(lines) + "\n"
    (RESULTS / "throughput.md").write_text(text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
