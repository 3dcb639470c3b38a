"""An item: a table or figure of the paper, from its trials to its files."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rllib_mec.viz import plotting
from suite import report
from suite.cells import Budget, Cell, Results
from suite.store import Store, write


@dataclasses.dataclass(frozen=True)
class Item:
    """A table or figure.

    Attributes:
        name: What ``--only`` calls it, and its files.
        title: Heading of its page.
        explanation: What it shows and what to know about how it was made.
        cells: The cells for a budget.
        draw: Draws the picture, within the package's style.
        metrics: Tables on its page.
        quantities: The numbers that the paper's text gives, computed from ours.
        remarks: More of the page, computed from the results.
        has_curves: Whether training curves are part of it.
    """

    name: str
    title: str
    explanation: str
    cells: Callable[[Budget], Sequence[Cell]]
    draw: Callable[[Results], Any]
    metrics: tuple[str, ...] = ("reward", "latency_ms", "energy_j")
    quantities: Callable[[Results], Mapping[str, float]] | None = None
    remarks: Callable[[Results], str] | None = None
    has_curves: bool = False

    def results(self, budget: Budget, store: Store) -> Results:
        """Its results, as far as the store has them."""
        return Results(self.cells(budget), store)

    def write(self, results: Results, budget: Budget, folder: pathlib.Path, jobs: int) -> None:
        """Write ``NAME.csv``, ``NAME.md``, ``NAME.png`` and, of curves, ``NAME_curves.csv``.

        Args:
            results: Complete results.
            budget: What they were made with.
            folder: Where to.
            jobs: Trials at a time, to say how long it takes.
        """
        write(folder / f"{self.name}.csv", report.results_csv(results))
        if self.has_curves:
            write(folder / f"{self.name}_curves.csv", report.curves_csv(results))
        with plotting.style():
            plotting.save(self.draw(results), folder / f"{self.name}.png")
        write(folder / f"{self.name}.md", self.page(results, budget, jobs))

    def page(self, results: Results, budget: Budget, jobs: int) -> str:
        """The Markdown page."""
        parts = [
            f"# {self.title}",
            self.explanation,
            report.header(results, budget, self.name, jobs),
            _READING,
            f"![{self.title}]({self.name}.png)",
        ]
        for metric in self.metrics:
            parts += [f"## {report.TITLES[metric]}", report.metric_table(results, metric)]
        if self.quantities is not None:
            parts += [
                "## The numbers in the paper's text",
                report.statement_table(self.name, self.quantities(results)),
            ]
        if self.remarks is not None:
            parts.append(self.remarks(results))
        return "\n\n".join(parts) + "\n"


_READING = (
    "Profile `paper`. *here*: the mean over training seeds ± its 95 % interval (Student's t; none "
    "for a single seed); policies act greedily. *here/planner*: the optimality gap as a ratio of "
    "costs: 1.05 is 5 % worse than the planner."
)
