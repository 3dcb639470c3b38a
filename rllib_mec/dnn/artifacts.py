"""Save a half as a ``torch.export`` program or as ONNX, and run it where the DNN's code is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from rllib_mec.dnn.capture import silence
from rllib_mec.dnn.integrity import check_archive, check_seal, seal
from rllib_mec.dnn.nesting import constants, plain, put_together, slot_names
from rllib_mec.dnn.program import TensorSpec, first_line
from rllib_mec.dnn.splitting import Head, Tail, fresh_state
from rllib_mec.dnn.stages import Middle
from rllib_mec.errors import MecError, unknown

TORCH, ONNX = ".pt2", ".onnx"
"""Suffixes of the two formats."""

_STORABLE = (type(None), bool, int, float)


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
        MecError: Another suffix, no folder to write to, no half, a result that holds what no file
            can, or the extra is not installed.
    """
    path = Path(path)
    _check_suffix(path)
    if not isinstance(half, Head | Middle | Tail):
        raise MecError(f"expected a half of split or split_route, got a {type(half).__name__}")
    if not path.parent.is_dir() or path.is_dir():
        raise MecError(f"cannot write {str(path)!r}: it must be a file in a folder that exists")
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
    elif path.suffix == TORCH and isinstance(half, Tail):
        given = _nested(half, graph, given)
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
            made = torch.onnx.export(
                program,
                input_names=[f"{name}:in" if name in results else name for name in names],
                output_names=results,
                dynamo=True,
                verbose=False,
            )
        except ImportError as error:
            raise MecError(f"{error}: pip install 'rllib_mec[onnx]'") from None
        assert made is not None  # with dynamo it never is
        _rename_inner(made.model.graph)
        made.save(path, external_data=False)
        seal(path)


def _rename_inner(graph: Any) -> None:
    """Let no value within an ONNX graph have the name of an input or output: torch looks not."""
    ends = {id(value): value.name for value in (*graph.inputs, *graph.outputs)}
    for node in graph:
        for value in node.outputs:
            if id(value) not in ends and value.name in ends.values():
                value.name = f"{value.name}:inner"


def load_half(path: str | Path) -> Callable[..., Any]:
    """Load a saved half as a function of the same arguments as the half itself.

    Args:
        path: A file that :func:`save_half` wrote.

    Returns:
        For ``.pt2`` the half; for ``.onnx`` a function that runs ONNX Runtime on the CPU and
        returns the named tensors, or for a tail the list of the result's leaves.

    Raises:
        MecError: Another suffix, no such file, a damaged one, or ONNX Runtime is not installed.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise MecError(f"there is no file {str(path)!r}")
    if path.suffix == TORCH:
        try:
            with silence():
                check_archive(path)
                program = torch.export.load(path)
                loaded = program.module()
        except MecError:
            raise
        except Exception as error:
            raise MecError(
                f"cannot load {str(path)!r}, which is damaged, of another version of torch or no"
                f" half that save_half wrote: {first_line(error)}"
            ) from error
        taken = _taken(program)

        def check(module: nn.Module, args: Any, kwargs: Any) -> None:
            """Refuse a call with what the half was not saved for.

            Args:
                module: The half.
                args: Of the call.
                kwargs: Likewise; it takes none.
            """
            if kwargs:
                told = ", ".join(kwargs)
                raise MecError(
                    f"{path.name!r} takes its arguments by place, but got {told} by name"
                )
            _check_like(taken, args, f"what {path.name!r} takes")

        loaded.register_forward_pre_hook(check, prepend=True, with_kwargs=True)
        return loaded
    try:
        import onnxruntime
    except ImportError:
        raise MecError("onnxruntime is not installed: pip install 'rllib_mec[onnx]'") from None
    check_seal(path)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise MecError(f"cannot load {str(path)!r}: {first_line(error)}") from error
    taken = [tensor.name for tensor in session.get_inputs()]
    given = [tensor.name for tensor in session.get_outputs()]

    def run(*arguments: Any) -> Any:
        """Run the half: a head gives tensors by name, a tail a list of results.

        Args:
            *arguments: Tensors in the order of the file's inputs, or one mapping of them by name.
        """
        names = [name.removesuffix(":in") for name in taken]
        given_by_name = isinstance(arguments[0], Mapping) if len(arguments) == 1 else False
        tensors = dict(arguments[0]) if given_by_name else dict(enumerate(arguments))
        expected = names if given_by_name else [*range(len(names))]
        specs = map(_spec_of, session.get_inputs())
        wanted = dict(zip(expected, specs, strict=True))
        _check_like(wanted, tensors, f"what {path.name!r} takes")
        feed = {
            name: tensors[key].detach().cpu().numpy()
            for name, key in zip(taken, expected, strict=True)
        }
        results = [torch.from_numpy(result) for result in session.run(given, feed)]
        is_tail = all(name.startswith("result_") for name in given)
        return results if is_tail else dict(zip(given, results, strict=True))

    return run


def _nested(tail: Tail, graph: fx.Graph, given: Any) -> Any:
    """Of a tail's tensors its result, in a file: of classes that need no code."""
    for value in constants(tail.result):
        if type(value) not in _STORABLE and not isinstance(value, torch.Size):
            raise MecError(
                f"the DNN returns {value!r} beside its tensors, which no .pt2 file can hold: only"
                " numbers and None"
            )
    result = plain(tail.result)

    def rebuilt(tensors: tuple[torch.Tensor, ...]) -> Any:
        return put_together(result, tensors)

    if tail.state is None:
        return graph.call_function(rebuilt, (given,))
    return graph.call_function(rebuilt, (given[0],)), given[1]


def _taken(program: torch.export.ExportedProgram) -> tuple[Any, ...]:
    """The arguments of a program from a file, with the spec of each tensor in its place."""
    nodes = {node.name: node.meta["val"] for node in program.graph.find_nodes(op="placeholder")}
    given = [nodes[name] for name in program.graph_signature.user_inputs if name in nodes]
    specs = [TensorSpec(tuple(tensor.shape), tensor.dtype) for tensor in given]
    structure = program.call_spec.in_spec
    assert structure is not None
    args, _ = pytree.tree_unflatten(specs, structure)
    return args


def _spec_of(argument: Any) -> TensorSpec:
    """What ONNX Runtime tells of a tensor."""
    name = str(argument.type).removeprefix("tensor(").removesuffix(")")
    name = {"float": "float32", "double": "float64"}.get(name, name)
    return TensorSpec(tuple(argument.shape), getattr(torch, name))


def _check_like(expected: Any, given: Any, where: str) -> None:
    """Check that what a half from a file is called with is what it was saved for.

    Args:
        expected: Containers of specs, in which sizes that range are no numbers.
        given: What it is called with.
        where: What that is, for errors.

    Raises:
        MecError: It is not.
    """
    if isinstance(expected, TensorSpec):
        if not isinstance(given, torch.Tensor):
            raise MecError(f"{where} must be a tensor, but is a {type(given).__name__}")
        pairs = zip(given.shape, expected.shape, strict=False)
        fits = all(not isinstance(wanted, int) or size == wanted for size, wanted in pairs)
        if given.dtype != expected.dtype or given.dim() != len(expected.shape) or not fits:
            raise MecError(
                f"{where} is of {given.dtype} and shape {tuple(given.shape)}, but the half was"
                f" saved for {expected.dtype} and {expected.shape}"
            )
    elif isinstance(expected, Mapping):
        if not isinstance(given, Mapping) or given.keys() != expected.keys():
            told = f"a {type(given).__name__}"
            if isinstance(given, Mapping):
                told = ", ".join(map(repr, given)) or "none"
            names = ", ".join(map(repr, expected))
            raise MecError(f"{where} must be tensors {names}, but is {told}")
        for name, value in expected.items():
            _check_like(value, given[name], f"{name!r}")
    elif isinstance(expected, list | tuple):
        if not isinstance(given, list | tuple) or len(given) != len(expected):
            count = len(given) if isinstance(given, list | tuple) else type(given).__name__
            raise MecError(f"{where} must be {len(expected)} in number, but is {count}")
        for i, value in enumerate(expected):
            _check_like(value, given[i], f"{where}, number {i},")


def _free(spec: TensorSpec) -> dict[int, Any]:
    """The dimensions whose size ranges, as ``torch.export`` takes them."""
    return {d: Dim.AUTO for d, size in enumerate(spec.sizes) if not isinstance(size, int)}


def _check_suffix(path: Path) -> None:
    if path.suffix not in (TORCH, ONNX):
        raise unknown("file suffix", path.suffix, (TORCH, ONNX))
