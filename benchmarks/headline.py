"""EMH-PPO on the paper's scenario over several training seeds: the numbers of the README.

It trains ``tuned_configs/emh_ppo.yaml`` once per seed by ``rllib train``, evaluates each checkpoint
by the paper's protocol, and writes ``results/headline.csv`` and ``results/headline.md``.

    python benchmarks/headline.py [--seeds 0 1 2] [--config tuned_configs/emh_ppo.yaml] [--resume]

About 4 minutes a seed on 2 cores. Ctrl-C leaves checkpoints; ``--resume`` goes on from them.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import sys

import yaml
from machine import describe_machine

from rllib_mec.cli.rllib import main as rllib
from rllib_mec.evaluation import METRICS, Evaluation, Interval, evaluate, paper_row
from rllib_mec.policies import LocalOnly, load_policy

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
EPISODES = 400


def main() -> int:
    """Train, evaluate, write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", type=pathlib.Path, default=ROOT / "tuned_configs/emh_ppo.yaml")
    parser.add_argument("--storage", type=pathlib.Path, default=ROOT / "runs")
    parser.add_argument("--name", default="headline", help="name of the result files")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    args = parser.parse_args()

    ((name, experiment),) = yaml.safe_load(args.config.read_text()).items()
    evaluations = []
    for seed in args.seeds:
        experiment["config"]["seed"] = seed
        file = args.storage / f"{args.name}_{name}_seed{seed}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump({file.stem: experiment}))
        folder = args.storage / file.stem
        done = folder / "evaluated"
        if not (args.resume and done.exists()):
            flags = ["--resume"] if args.resume and folder.exists() else []
            code = rllib(["train", "file", str(file), "--storage-path", str(args.storage), *flags])
            if code:
                return code
        evaluations.append(evaluate(load_policy(folder), episodes=EPISODES))
        done.touch()
    _write(args, evaluations)
    return 0


def _write(args: argparse.Namespace, evaluations: list[Evaluation]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{args.name}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["training_seed", *METRICS])
        for seed, evaluation in zip(args.seeds, evaluations, strict=True):
            writer.writerow([seed, *(f"{evaluation[m].mean:.6g}" for m in METRICS)])

    scenario = evaluations[0].scenario
    local = evaluate(LocalOnly(scenario), episodes=2)
    paper = paper_row(scenario, evaluations[0].num_tasks) or {}
    lines = [
        f"{scenario.dnn}, N={scenario.num_devices}, M={scenario.num_servers}, "
        f"C={scenario.num_channels}, profile `{scenario.profile}`, `{scenario.partition}` points; "
        f"mean ± 95 % interval over training seeds {args.seeds}, {EPISODES} episodes each.",
        f"Command: `python benchmarks/headline.py`. Machine: {describe_machine()}.",
        "",
        "| metric | EMH-PPO | against local only | local only | the paper's EMH-PPO |",
        "|---|---|---|---|---|",
    ]
    for metric, digits in (("reward", 2), ("latency_ms", 1), ("energy_j", 4), ("waiting_ms", 2)):
        interval = Interval.of([e[metric].mean for e in evaluations])
        base = local[metric].mean
        saving = ""
        if metric in ("latency_ms", "energy_j"):
            saving = f"{100 * (interval.mean / base - 1):+.1f} %"
        published = f"{paper[metric]:.{digits}f}" if metric in paper else ""
        lines.append(
            f"| {metric} | {interval.mean:.{digits}f} ± {interval.half_width:.{digits}f} "
            f"| {saving} | {base:.{digits}f} | {published} |"
        )
    text = "\n".join(lines) + "\n"
    (RESULTS / f"{args.name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    sys.exit(main())
