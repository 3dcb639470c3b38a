"""Save a half as a ``torch.export`` program or as ONNX, and run it where the DNN's code is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.export import Dim

from rllib_mec.dnn.nesting import plain, put_together, slot_names
from rllib_mec.dnn.program import TensorSpec
from rllib_mec.dnn.splitting import Head, Tail, fresh_state
from rllib_mec.dnn.stages import Middle
from rllib_mec.errors import MecError, unknown

TORCH, ONNX = ".pt2", ".onnx"
"""Suffixes of the two formats."""


def save_half(half: Head | Middle | Tail, path: str | Path) -> None:
    """Write a half, with its weights, to a file that needs no Python code of the DNN.

    Shapes are fixed to the traced ones, but for sizes that range. A head in a file takes its
    tensors one by one, in the order of ``half.inputs``; a tail gives dataclasses and the like as
    dicts, named tuples as tuples. An ONNX file's inputs and outputs carry the tensors' names; a
    tail's outputs are the result's tensors in order, ``result_0``, ``result_1``, ...

    Args:
        half: A half from :func:`rllib_mec.dnn.split`, or a part from
            :func:`rllib_mec.dnn.split_route`.
        path: Ends in ``.pt2`` (``torch.export`` program) or ``.onnx`` (needs the extra ``onnx``).

    Raises:
        MecError: Another suffix, or the extra is not installed.
    """
    path = Path(path)
    _check_suffix(path)
    if half.state is not None and path.suffix == ONNX:
        raise MecError("a half that keeps state must be saved as .pt2, which gives it back")
    device = next((p.device for p in half.parameters()), torch.device("cpu"))
    graph = fx.Graph()
    given: Any = graph.graph_copy(half.graph, {})
    # Where a size is 1, torch fixes it.
    at = {name: max(size, 2) for name, size in half.ranges.given.items()}
    taken = half.inputs if isinstance(half, Head) else half.tensors
    examples = {
        name: replace(s, shape=half.ranges.shape(s.sizes or s.shape, **at)).example(device)
        for name, s in taken.items()
    }
    free = {name: _free(spec) for name, spec in taken.items()}
    arguments: tuple[Any, ...] = (examples,)
    shapes: tuple[Any, ...] = (free,)
    if isinstance(half, Head):
        arguments, shapes = tuple(examples.values()), tuple(free.values())
    elif half.state is not None and isinstance(half, Tail):
        given = put_together(plain(half.result), given[0]), given[1]
    elif path.suffix == TORCH and isinstance(half, Tail):
        given = put_together(plain(half.result), given)
    if half.state is not None:
        arguments = fresh_state(half, **at), *arguments
        shapes = {name: _free(s) for name, s in half.state.items()}, *shapes
    graph.output(given)
    bare = fx.GraphModule(half, graph).eval()  # without the checks of a call
    with torch.no_grad():
        program = torch.export.export(
            bare, arguments, dynamic_shapes=shapes if half.ranges else None, strict=False
        )
        if path.suffix == TORCH:
            torch.export.save(program, path)
            return
        names = list(half.inputs) if isinstance(half, Head) else list(half.tensors)
        if isinstance(half, Head | Middle):
            results = list(half.tensors if isinstance(half, Head) else half.given)
        else:
            results = [f"result_{i}" for i in range(len(slot_names(half.result)))]
        try:
            torch.onnx.export(
                program,
                f=path,
                input_names=[f"{name}:in" if name in results else name for name in names],
                output_names=results,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except ImportError as error:
            raise MecError(f"{error}: pip install 'rllib_mec[onnx]'") from None


def load_half(path: str | Path) -> Callable[..., Any]:
    """Load a saved half as a function of the same arguments as the half itself.

    Args:
        path: A file that :func:`save_half` wrote.

    Returns:
        For ``.pt2`` the half; for ``.onnx`` a function that runs ONNX Runtime on the CPU and
        returns the named tensors, or for a tail the list of the result's leaves.

    Raises:
        MecError: Another suffix, no such file, or ONNX Runtime is not installed.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise MecError(f"there is no file {str(path)!r}")
    if path.suffix == TORCH:
        return torch.export.load(path).module()
    try:
        import onnxruntime
    except ImportError:
        raise MecError("onnxruntime is not installed: pip install 'rllib_mec[onnx]'") from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = [tensor.name for tensor in session.get_inputs()]
    given = [tensor.name for tensor in session.get_outputs()]

    def run(*arguments: Any) -> Any:
        """Run the half: a head gives tensors by name, a tail a list of results.

        Args:
            *arguments: Tensors in the order of the file's inputs, or one mapping of them by name.
        """
        if len(arguments) == 1 and isinstance(arguments[0], Mapping):
            feed = {name: arguments[0][name.removesuffix(":in")].numpy() for name in taken}
        else:
            feed = {name: tensor.numpy() for name, tensor in zip(taken, arguments, strict=True)}
        results = [torch.from_numpy(result) for result in session.run(given, feed)]
        is_tail = all(name.startswith("result_") for name in given)
        return results if is_tail else dict(zip(given, results, strict=True))

    return run


def _free(spec: TensorSpec) -> dict[int, Any]:
    """The dimensions whose size ranges, as ``torch.export`` takes them."""
    return {d: Dim.AUTO for d, size in enumerate(spec.sizes) if not isinstance(size, int)}


def _check_suffix(path: Path) -> None:
    if path.suffix not in (TORCH, ONNX):
        raise unknown("file suffix", path.suffix, (TORCH, ONNX))
