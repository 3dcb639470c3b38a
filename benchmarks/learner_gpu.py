"""EMH-PPO's update on a GPU beside the same on the CPU, in one run.

    python benchmarks/learner_gpu.py [--repeats 5] [--out FOLDER]

Each case trains with ``num_gpus_per_learner`` 0 and 1 in turn, the local env runner on the CPU in
both, and takes the median of the iterations after a first one. It writes ``learner_gpu.md`` and
``learner_gpu.csv``. About a minute and a half on 16 cores and an H100.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import statistics
from typing import Any, NamedTuple

from machine import describe_machine

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


class Case(NamedTuple):
    """What is trained.

    Attributes:
        model: ``paper`` or ``set``.
        devices: N.
        batch: Task windows of an iteration.
        minibatch: Of an update's step.
    """

    model: str
    devices: int
    batch: int
    minibatch: int


CASES = [
    Case("paper", 3, 2048, 512),
    Case("paper", 3, 16384, 4096),
    Case("paper", 32, 2048, 512),
    Case("set", 3, 2048, 512),
    Case("set", 3, 16384, 4096),
    Case("set", 32, 1024, 512),
]
EPOCHS = 4


def seconds(case: Case, num_gpus: int, repeats: int) -> float:
    """Median seconds of an iteration.

    Args:
        case: What is trained.
        num_gpus: 0 or 1.
        repeats: Iterations after the first one.
    """
    from rllib_mec.algorithms.emh_ppo import EMHPPOConfig

    model: dict[str, Any] = {"model": "set"} if case.model == "set" else {}
    config = (
        EMHPPOConfig()
        .environment("mec_task_window_v0", env_config={"num_devices": case.devices})
        .env_runners(num_envs_per_env_runner=128)
        .learners(num_gpus_per_learner=num_gpus)
        .training(
            train_batch_size_per_learner=case.batch,
            minibatch_size=case.minibatch,
            num_epochs=EPOCHS,
        )
        .debugging(seed=0)
    )
    algorithm = (config.rl_module(model_config=model) if model else config).build_algo()
    try:
        algorithm.train()
        return statistics.median(algorithm.train()["time_this_iter_s"] for _ in range(repeats))
    finally:
        algorithm.stop()


def main() -> int:
    """Measure every case and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    import ray
    import torch

    if not torch.cuda.is_available():
        parser.error("torch sees no GPU here: torch.cuda.is_available() is false")
    ray.init(num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    rows: list[dict[str, Any]] = []
    for case in CASES:
        row: dict[str, Any] = case._asdict()
        for name, num_gpus in (("cpu", 0), ("gpu", 1)):
            row[f"{name}_s"] = seconds(case, num_gpus, options.repeats)
        rows.append(row)
        print(row, flush=True)
        write(rows, options.out)
    ray.shutdown()
    return 0


def write(rows: list[dict[str, Any]], folder: pathlib.Path) -> None:
    """Write what was measured so far.

    Args:
        rows: Of the CSV.
        folder: Where.
    """
    import torch

    with (folder / "learner_gpu.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    lines = [
        "# A GPU for the learner",
        "",
        f"Median of an iteration of EMH-PPO ({EPOCHS} epochs, seed 0) with `num_gpus_per_learner` "
        "0 and 1 in one run, sampling on the CPU in both, and how many times faster the GPU is. "
        "Command: `python benchmarks/learner_gpu.py`. Machine: "
        f"{torch.cuda.get_device_name()}, {describe_machine()}, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads.",
        "",
        "| model | MDs | windows | minibatch | CPU, s | GPU, s | ratio |",
        "|" + "---|" * 7,
    ]
    for row in rows:
        cells = [row[name] for name in ("model", "devices", "batch", "minibatch")]
        cpu, gpu = row["cpu_s"], row["gpu_s"]
        cells += [f"{cpu:.2f}", f"{gpu:.2f}", f"{cpu / gpu:.1f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    (folder / "learner_gpu.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
