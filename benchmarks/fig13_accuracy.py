"""Fig. 13: accuracy of ResNet-50 when intermediate data lose precision, for each method.

A method degrades its features with the probability latency / local latency (Section V-F). What
degrading does, the paper leaves open: here it is a codec's round trip or noise, and it hits a
task's tensors as a whole or each element alone.

    python benchmarks/fig13_accuracy.py                                   # digits, trains itself
    python benchmarks/fig13_accuracy.py --data DIR --weights resnet50.pt  # CIFAR-10, your weights
    python benchmarks/fig13_accuracy.py --data DIR --device cuda          # CIFAR-10, trains itself

The first takes about 10 minutes on 2 cores and needs scikit-learn. Ctrl-C is safe: the same command
goes on. It writes ``results/fig13_accuracy.{csv,png,md}``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import pathlib
import sys

import fig13_network as network
import fig13_report as report
import numpy as np
import torch
from fig13_report import Method, Row
from machine import describe_machine
from torch import nn

from rllib_mec.dnn import PartitionPoint, PartitionTable, split, trace
from rllib_mec.envs.episodes import EVALUATION_DISTANCE_M, run_episodes
from rllib_mec.errors import MecError, unknown
from rllib_mec.network.scenario import Scenario
from rllib_mec.policies import load_policy
from rllib_mec.testbed.accuracy import UNITS, Degradation, SplitAccuracy, degradation_probability
from rllib_mec.viz.plotting import check_installed

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEGRADATIONS = (
    Degradation("int8"),
    Degradation("int4"),
    *(Degradation("noise", strength) for strength in (1.0, 2.0, 4.0, 6.0, 8.0)),
)
EPOCHS = {"digits": 6, "CIFAR-10": 30}


def main(argv: list[str] | None = None) -> int:
    """Train or load the network, degrade, write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=pathlib.Path, metavar="DIR", help="folder with CIFAR-10 (default: digits)")
    add("--weights", type=pathlib.Path, metavar="FILE", help="trained weights (default: train)")
    add("--images", type=int, default=1000, help="the most test images (default 1000)")
    add("--epochs", type=int, help="of training (default: 6 for digits, 30 for CIFAR-10)")
    add("--seeds", type=int, default=3, help="draws of each degradation (default 3)")
    add("--latencies", default="ours", help="ours (measured, where we have them) or paper")
    add("--policy", metavar="CHECKPOINT", help="weigh partition points as this policy decides")
    add("--device", default="cpu", help="where torch runs, e.g. cuda")
    add("--work", type=pathlib.Path, default=ROOT / "runs/fig13", help="where to resume from")
    add("--out", type=pathlib.Path, default=ROOT / "benchmarks/results", help="where to write")
    args = parser.parse_args(argv)
    try:
        return run(args)
    except MecError as error:
        print(f"fig13_accuracy: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


def run(args: argparse.Namespace) -> int:
    """Do what the arguments say."""
    check_installed()
    for name in ("images", "seeds", "epochs"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise MecError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.latencies not in report.LATENCIES:
        raise unknown("--latencies", args.latencies, report.LATENCIES)
    methods = report.methods(args.latencies, args.out)
    table = Scenario().table  # the points that the methods decide among
    shares = decided_shares(args.policy, table)
    images, model = prepare(args)
    rows = measure(args, model, images, table, methods)
    command = " ".join(["python", "benchmarks/fig13_accuracy.py", *sys.argv[1:]])
    machine = describe_machine()
    if args.device.startswith("cuda"):
        machine += f", {torch.cuda.get_device_name(args.device)}"
    origin = f"`{command}`\n\n{machine}"
    report.write(args.out, rows, methods, shares, table, images, origin)
    return 0


def prepare(args: argparse.Namespace) -> tuple[network.Images, nn.Module]:
    """The test images and the trained network."""
    if args.data is None:
        images = network.digits(train=False)
    else:
        images = network.cifar10(args.data, train=False, limit=args.images)
    if args.weights is not None:
        return images, network.load_weights(network.resnet50(), args.weights).to(args.device)
    training = (
        network.digits(train=True) if args.data is None else network.cifar10(args.data, train=True)
    )
    epochs = args.epochs or EPOCHS[images.name]
    checkpoint = args.work / f"{images.name.lower()}_{epochs}.pt"
    return images, network.train(training, epochs, checkpoint, args.device)


def decided_shares(checkpoint: str | None, table: PartitionTable) -> np.ndarray:
    """How much each partition point counts.

    Args:
        checkpoint: Of the policy whose decisions count; None: every point that sends intermediate
            data counts alike, which the input is not.
        table: The points.

    Returns:
        ``(S,)``, sums to 1.

    Raises:
        MecError: The policy decides among other points.
    """
    if checkpoint is None:
        between = np.arange(1, len(table) - 1)
        return np.isin(np.arange(len(table)), between) / len(between)
    policy = load_policy(checkpoint)
    scenario = policy.scenario
    if scenario.table.operators != table.operators:
        raise MecError(f"--policy decides on {scenario.dnn} with {scenario.partition!r} points")
    counts = np.zeros(len(table))

    def decide(observation: np.ndarray) -> dict[str, np.ndarray]:
        decision = policy.decide(observation)
        played = np.minimum(decision["window"] + 1, policy.mdp.decode(observation).queues)
        chosen = np.arange(scenario.max_window) < played[..., None]
        counts[:] += np.bincount(decision["partition"][chosen], minlength=len(table))
        return decision

    tasks = round(scenario.mean_tasks)
    run_episodes(decide, scenario, 20, seed=0, num_tasks=tasks, distance_m=EVALUATION_DISTANCE_M)
    return counts / counts.sum()


def measure(
    args: argparse.Namespace,
    model: nn.Module,
    images: network.Images,
    table: PartitionTable,
    methods: list[Method],
) -> list[Row]:
    """Accuracy at every point, degradation, unit, probability and seed; done ones are kept."""
    probabilities = sorted(
        {
            round(degradation_probability(latency, method.local_ms), 4)
            for method in methods
            for latency in (method.latency_ms, method.paper_ms)
        }
    )
    graph = trace(model, torch.zeros(1, *images.inputs.shape[1:], device=args.device))
    done = _Done(args.work / f"rows_{_digest(model, images)}.csv")
    grid = list(itertools.product(DEGRADATIONS, range(args.seeds), UNITS, probabilities))
    bar = network.Bar((len(table) - 1) * len(grid))
    rows = []
    for index in range(len(table) - 1):
        # The same operators, on smaller images than the table was made for.
        head, tail = split(model, PartitionPoint(graph, table.point(index).head))
        accuracy = None
        for degradation, seed, unit, probability in grid:
            key = (index, degradation.label, unit, probability, seed)
            if key not in done.rows:
                accuracy = accuracy or SplitAccuracy(
                    head, tail, images.inputs.to(args.device), images.labels
                )
                got = accuracy.degraded(degradation, probability, unit=unit, seed=seed)
                done.add(Row(*key, accuracy=got, lossless=accuracy.lossless))
            rows.append(done.rows[key])
            bar.step(f"point {index}, {degradation.label}, p = {probability:.2f}")
    return rows


class _Done:
    """Rows that are measured, in a file to which each is added at once."""

    def __init__(self, file: pathlib.Path):
        file.parent.mkdir(parents=True, exist_ok=True)
        self.rows: dict[tuple, Row] = {}
        self._file = file
        if file.exists():
            with file.open(newline="") as lines:
                for row in map(Row.parse, csv.reader(lines)):
                    self.rows[row.key] = row

    def add(self, row: Row) -> None:
        self.rows[row.key] = row
        with self._file.open("a", newline="") as lines:
            csv.writer(lines).writerow(row)


def _digest(model: nn.Module, images: network.Images) -> str:
    """Differs where weights or images do."""
    digest = hashlib.sha256(images.inputs.numpy().tobytes())
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
