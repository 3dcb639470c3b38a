"""The command line of the reproduction suite."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from rllib_mec.errors import MecError, unknown
from rllib_mec.viz.plotting import check_installed
from suite.cells import BUDGETS, Budget
from suite.item import Item
from suite.store import ROOT, Store
from suite.trial import Trial

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise MecError(f"{message} (see --help)")


def main(items: Sequence[Item], description: str, argv: Sequence[str] | None = None) -> int:
    """Run items as the command line asks.

    Args:
        items: Those there are.
        description: Text of ``--help``.
        argv: The command line after the program's name; default: the process's own.

    Returns:
        The exit code: 0; 1 where a trial failed; 2 for bad input; 130 after Ctrl-C.
    """
    try:
        args = _parse(items, description, argv)
        return _run(args)
    except MecError as error:
        print(f"reproduce: error: {error}", file=sys.stderr)
        return BAD_INPUT


def _parse(
    items: Sequence[Item], description: str, argv: Sequence[str] | None
) -> argparse.Namespace:
    by_name = {item.name: item for item in items}
    parser = _Parser(
        description=f"{description}\n\n"
        + "\n".join(f"  {item.name:<10} {item.title}" for item in items),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--only", nargs="+", default=["all"], metavar="NAME", help="items to run (default: all)"
    )
    parser.add_argument("--budget", default="full", help=f"{' or '.join(BUDGETS)} (default: full)")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="trials at a time"
    )
    parser.add_argument(
        "--storage", type=pathlib.Path, default=ROOT / "runs" / "reproduce", help="trials' folder"
    )
    parser.add_argument(
        "--results",
        type=pathlib.Path,
        help="folder of tables and pictures (default: benchmarks/results; quick ones in --storage)",
    )
    parser.add_argument(
        "--report-only", action="store_true", help="write from finished trials, train nothing"
    )
    parser.add_argument(
        "--redo-stale", action="store_true", help="redo trials that were made by other code"
    )
    args = parser.parse_args(argv)
    if args.budget not in BUDGETS:
        raise unknown("budget", args.budget, BUDGETS)
    if args.jobs < 1:
        raise MecError(f"--jobs must be at least 1, but is {args.jobs}")
    for name in args.only:
        if name not in {"all", *by_name}:
            raise unknown("item", name, ["all", *by_name])
    args.items = [item for item in items if {"all", item.name} & set(args.only)]
    if args.results is None:
        default = ROOT / "benchmarks" / "results"
        args.results = default if args.budget == "full" else args.storage / f"{args.budget}_results"
    return args


def _run(args: argparse.Namespace) -> int:
    check_installed()  # before hours of work, not after
    budget, store = BUDGETS[args.budget], Store(args.storage)
    pending = {item.name: item.results(budget, store) for item in args.items}
    trials = {t.key: t for results in pending.values() for t in results.trials()}
    _deal_with_stale(list(trials.values()), store, redo=args.redo_stale)
    missing = [pair for results in pending.values() for pair in results.missing()]
    if args.report_only and missing:
        short = [name for name, results in pending.items() if results.missing()]
        raise MecError(
            f"{store.root} lacks {len({t.key for t, _ in missing})} of {len(trials)} trials, of "
            f"{', '.join(short)} with budget {budget.name!r}; run without --report-only"
        )
    from suite import run

    work = run.left_to_do(missing, store)
    finished = len(trials) - len(work)
    print(f"{len(args.items)} items, {len(trials)} trials, {finished} of them done before")
    keys = {
        item.name: {trial.key for trial, _ in pending[item.name].missing()} for item in args.items
    }

    def write_complete(trial: Trial | None = None) -> None:
        for item in args.items:
            if trial is not None:
                keys[item.name].discard(trial.key)
            if item.name in pending and not keys[item.name]:
                _write(item, pending.pop(item.name), budget, args)

    write_complete()
    outcome = run.run(work, store, args.jobs, write_complete) if work else None
    for label, cause in outcome.failed if outcome else []:
        print(f"reproduce: error: {label}: {cause}", file=sys.stderr)
    if pending:
        print(f"not complete: {', '.join(pending)}; the same command goes on", file=sys.stderr)
    if outcome is not None and outcome.interrupted:
        return INTERRUPTED
    return FAILED if pending else OK


def _write(item: Item, results, budget: Budget, args: argparse.Namespace) -> None:
    item.write(results, budget, args.results, args.jobs)
    print(f"{item.title}  ->  {args.results / item.name}.md", flush=True)


def _deal_with_stale(trials: list[Trial], store: Store, *, redo: bool) -> None:
    stale = [trial for trial in trials if store.is_stale(trial)]
    if redo:
        for trial in stale:
            store.discard(trial)
    elif stale:
        print(
            f"reproduce: note: {len(stale)} of {len(trials)} trials were made by other code than "
            "today's; --redo-stale redoes them",
            file=sys.stderr,
        )
