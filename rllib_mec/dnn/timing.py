"""Run a traced program node by node under a clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.program import Program, example_tensors
from rllib_mec.errors import MecError

Times = dict[str, list[float]]


class _Clock(fx.Interpreter):
    """Adds up, for each operator, the milliseconds that its nodes take in one run."""

    def __init__(
        self, program: Program, synchronise: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        super().__init__(program.module)
        self._owner = {node: op for op, nodes in program.groups.items() for node in nodes}
        self._synchronise, self._clock = synchronise, clock
        self.spent: dict[str, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        owner = self._owner.get(n.name)
        if owner is None:
            return super().run_node(n)
        start = self._clock()
        value = super().run_node(n)
        self._synchronise()
        self.spent[owner] = self.spent.get(owner, 0.0) + 1e3 * (self._clock() - start)
        return value


def time_program(
    graph: OperatorGraph, example_input: Any, runs: int, warmup: int, now: Callable[[], float]
) -> tuple[Times, list[float], tuple[tuple[int, ...], ...], dict[str, str]]:
    """Time the program behind a graph.

    Args:
        graph: A traced graph.
        example_input: As the graph was traced with; None for random ones of the traced shapes.
        runs: Timed runs.
        warmup: Runs before them.
        now: Seconds that count.

    Returns:
        For each operator its ms in each run, the ms of each whole run, the inputs' shapes, and the
        machine.

    Raises:
        MecError: The parameters are on the meta device.
    """
    program: Program = graph.program
    parameter = next(program.module.parameters(), None)
    if parameter is not None and parameter.is_meta:
        raise MecError(
            f"the graph {graph.name!r} was traced without weights: trace(build_model(...), x) first"
        )
    device = parameter.device if parameter is not None else torch.device("cpu")
    if example_input is None:
        inputs = example_tensors(program, device)
    else:
        args = example_input if isinstance(example_input, tuple) else (example_input,)
        by_name = isinstance(example_input, Mapping)
        inputs = program.call.tensors(*(((), example_input) if by_name else (args, {})))
    cuda = device.type == "cuda"
    clock = _Clock(program, torch.cuda.synchronize if cuda else lambda: None, now)
    times: Times = defaultdict(list)
    whole: list[float] = []
    with torch.inference_mode():
        for run in range(warmup + runs):
            clock.spent = {}
            clock.run(*inputs)
            start = now()
            program.module(*inputs)
            if cuda:
                torch.cuda.synchronize()
            if run >= warmup:
                whole.append(1e3 * (now() - start))
                for operator in graph.operators:
                    times[operator.name].append(clock.spent.get(operator.name, 0.0))
    shapes = tuple(tuple(t.shape) for t in inputs)
    machine = {
        "device": torch.cuda.get_device_name(device) if cuda else str(device),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
    }
    return times, whole, shapes, machine
