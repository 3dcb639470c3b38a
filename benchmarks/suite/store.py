"""Where finished trials live: one folder each, so that nothing is done twice."""

from __future__ import annotations

import ast
import csv
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

from suite.trial import Protocol, Trial

ROOT = pathlib.Path(__file__).resolve().parents[2]

_DETERMINING = ("algorithms", "dnn", "envs", "network", "policies")

_NO_PART = {
    "mahppo": ("algorithms/emh_ppo/", "algorithms/agile_nn", "algorithms/h_ppo", "policies/plan"),
    "h_ppo": ("algorithms/emh_ppo/", "algorithms/agile_nn", "algorithms/mahppo", "policies/plan"),
    "planner": ("algorithms/",),
    "local-only": ("algorithms/", "policies/plan"),
}
"""A trial's source -> beginnings of files that have no part in its results."""


@functools.cache
def source_fingerprint(source: str) -> str:
    """A hash of the code that makes a trial's results, without its comments and docstrings.

    Args:
        source: The trial's source.
    """
    digest = hashlib.sha256()
    package = ROOT / "rllib_mec"
    for folder in _DETERMINING:
        for file in sorted((package / folder).rglob("*.py")):
            if file.relative_to(package).as_posix().startswith(_NO_PART.get(source, ())):
                continue
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list):
                    body[:] = [statement for statement in body if not _is_docstring(statement)]
            digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@dataclasses.dataclass(frozen=True)
class Store:
    """A folder of trials, each with ``training.json, curve.csv, checkpoint/, evaluations/*.json``.

    Every file appears in one piece, and ``training.json`` last: a trial that was killed leaves
    nothing that counts.

    Attributes:
        root: The folder.
    """

    root: pathlib.Path

    def folder(self, trial: Trial) -> pathlib.Path:
        """A trial's own folder; it may not exist yet."""
        return self.root / trial.key

    def checkpoint(self, trial: Trial) -> pathlib.Path:
        """Where the trained policy is."""
        return self.folder(trial) / "checkpoint"

    def training(self, trial: Trial) -> dict[str, Any] | None:
        """Its ``seconds``, ``steps``, ``commit`` and ``sources``, once it has ended."""
        return _read(self.folder(trial) / "training.json")

    def evaluation(self, trial: Trial, protocol: Protocol) -> dict[str, Any] | None:
        """A measurement, as ``Evaluation.to_dict`` with ``seconds``, ``commit`` and ``sources``."""
        return _read(self._evaluation_file(trial, protocol))

    def curve(self, trial: Trial) -> list[dict[str, float]]:
        """The training curve; empty if the trial is not trained yet."""
        file = self.folder(trial) / "curve.csv"
        if not file.exists():
            return []
        with file.open(newline="", encoding="utf-8") as lines:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]

    def has(self, trial: Trial, protocol: Protocol) -> bool:
        """Whether nothing is left to do for this measurement."""
        trained = not trial.is_trained or self.training(trial) is not None
        return trained and self.evaluation(trial, protocol) is not None

    def discard(self, trial: Trial) -> None:
        """Forget a trial."""
        shutil.rmtree(self.folder(trial), ignore_errors=True)

    def is_stale(self, trial: Trial) -> bool:
        """Whether something of it was made by other code than today's."""
        files = [*self.folder(trial).glob("training.json"), *self._evaluations(trial)]
        today = source_fingerprint(trial.source)
        return any(_read(file)["sources"] != today for file in files)

    def write_training(
        self, trial: Trial, record: dict[str, Any], curve: list[dict[str, float]]
    ) -> None:
        """Keep a finished training, whose checkpoint is in place already."""
        folder = self.folder(trial)
        write(folder / "trial.json", json.dumps(trial.to_dict(), indent=2, default=str))
        names = list(curve[0])
        rows = [",".join(f"{row[name]:.7g}" for name in names) for row in curve]
        write(folder / "curve.csv", "\n".join([",".join(names), *rows]) + "\n")
        write(folder / "training.json", json.dumps(record, indent=2))

    def write_evaluation(self, trial: Trial, protocol: Protocol, record: dict[str, Any]) -> None:
        """Keep a measurement."""
        write(self.folder(trial) / "trial.json", json.dumps(trial.to_dict(), indent=2, default=str))
        write(self._evaluation_file(trial, protocol), json.dumps(record, indent=2))

    def _evaluation_file(self, trial: Trial, protocol: Protocol) -> pathlib.Path:
        return self.folder(trial) / "evaluations" / f"{protocol.name}.json"

    def _evaluations(self, trial: Trial) -> list[pathlib.Path]:
        return sorted(self.folder(trial).glob("evaluations/*.json"))


def write(file: pathlib.Path, text: str) -> None:
    """Write a file so that it is there in full or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def _read(file: pathlib.Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
