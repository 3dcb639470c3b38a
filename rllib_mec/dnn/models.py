"""DNNs by name: torchvision's classification models, traced without weights, and the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.dnn.inputs import Inputs, parse_inputs, traced_with
from rllib_mec.errors import MecError, unknown, users_code
from rllib_mec.tables import DNNS

if TYPE_CHECKING:
    from torch import nn

INPUT_SHAPE = (3, 224, 224)
"""The RGB input on which the paper counts MACs and bits (Section V-A)."""

_BUILD_ARGUMENTS: dict[str, dict[str, Any]] = {
    # Their initialisation takes many seconds, and without weights to load it is of no use.
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
}


@lru_cache(maxsize=1)
def _model_names() -> tuple[str, ...]:
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


def model_names() -> list[str]:
    """Names of all classification models in the installed torchvision."""
    return list(_model_names())


def build_model(name: str, device: str = "cpu") -> nn.Module:
    """Build a DNN in eval mode: a torchvision classification model, with random weights.

    Args:
        name: A name of :func:`model_names`, or of a DNN of the user's own.
        device: Where its parameters live; ``"meta"`` allocates none, enough for tracing.

    Returns:
        The module, in eval mode (GoogLeNet's and InceptionV3's auxiliary heads do not run).

    Raises:
        MecError: There is no such DNN, or its factory fails.
    """
    import torch
    import torchvision

    if is_own(name):
        return model_from_factory(name).to(device)
    if name not in model_names():
        raise unknown("DNN", name, [*model_names(), *DNNS])
    arguments = {"weights": None, **_BUILD_ARGUMENTS.get(name, {})}
    try:
        with torch.device(device):
            model = torchvision.models.get_model(name, **arguments)
    except NotImplementedError:  # RegNet computes its widths with tensors, which meta cannot
        with _parameters_on_meta():
            model = torchvision.models.get_model(name, **arguments).to(device)
    return model.eval()


def model_from_factory(name: str) -> nn.Module:
    """Make a DNN of the user's own.

    Args:
        name: One that was registered, or ``pkg.module:factory`` of what returns the module, also
            in the working folder.

    Returns:
        The module, in eval mode.

    Raises:
        MecError: There is no such factory, it fails, or it does not make a module.
    """
    from torch import nn

    factory = DNNS.load(name)
    with users_code(f"the factory of DNN {name!r} failed"):
        made = factory()
    if not isinstance(made, nn.Module):
        raise MecError(
            f"the factory of DNN {name!r} made a {type(made).__name__}, expected a torch.nn.Module"
        )
    return made.eval()


def check_factory(name: str, factory: Any) -> Callable[[], Any]:
    """The factory, if it is one.

    Args:
        name: The DNN's name, for messages.
        factory: What was found.

    Raises:
        MecError: It cannot be called without arguments.
    """
    if not callable(factory):
        raise MecError(f"the factory of DNN {name!r} must be callable, but is {factory!r}")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise MecError(
            f"the factory of DNN {name!r} must take no arguments, but: {error}"
        ) from None
    except ValueError:  # a builtin does not say what it takes
        pass
    return factory


def check_own_name(name: str) -> None:
    """Check that a user's DNN does not take the name of one of torchvision's.

    Args:
        name: The name.

    Raises:
        MecError: It does.
    """
    if name in model_names():
        raise MecError(f"the DNN name {name!r} is torchvision's: register yours under another name")


def is_own(name: str) -> bool:
    """Whether a DNN is of the user's own: registered, or ``pkg.module:factory``.

    Args:
        name: The DNN's name.
    """
    return ":" in name or (name not in model_names() and name in DNNS)


def input_shape(label: str, value: Any) -> tuple[int, ...] | Inputs:
    """The shape of a DNN's input without the batch dimension, or its arguments.

    Args:
        label: Who gives it, for messages.
        value: What was given, e.g. ``[3, 64, 64]`` or ``{"input_ids": "int64[1,16]"}``.

    Raises:
        MecError: It is neither a list of sizes nor arguments.
    """
    if isinstance(value, Mapping):
        inputs = parse_inputs(label, value)
        for name in inputs.ranges:
            raise MecError(f"{label}: all tasks are of one size, so give {name!r} a number")
        return inputs
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    sizes: tuple[Any, ...] = tuple(value) if is_list else ()
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    if not sizes or not whole or min(sizes) < 1:
        raise MecError(f"{label} must be sizes such as [3, 64, 64], but is {value!r}")
    return sizes


def own_input(name: str, given: tuple[int, ...] | Inputs | None = None) -> tuple[int, ...] | Inputs:
    """The input of a DNN by name.

    Args:
        name: A name of :func:`model_names`, one that was registered, or ``pkg.module:factory``.
        given: The input asked for; ``None`` for the DNN's own.

    Returns:
        Its shape, or all arguments: as given, or as registered, or torchvision's 3x224x224.

    Raises:
        MecError: There is no such DNN, or none is known for ``pkg.module:factory``.
    """
    if ":" not in name and name in model_names():
        return given or INPUT_SHAPE
    if not is_own(name):
        raise unknown("dnn", name, [*model_names(), *DNNS])
    DNNS.load(name)
    shape = given or DNNS.entry(name).facts.get("input")
    if shape is None:
        raise MecError(f"the input of DNN {name!r} is not known: give dnn_input, e.g. [3, 64, 64]")
    return shape


def _parameters_on_meta() -> Any:
    """A context in which uninitialised tensors, as layers make for parameters, are on meta."""
    import torch
    from torch.overrides import TorchFunctionMode

    class ParametersOnMeta(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.empty:
                kwargs = {**(kwargs or {}), "device": "meta"}
            return func(*args, **(kwargs or {}))

    return ParametersOnMeta()


def check_dnn(name: str, input_shape: tuple[int, ...] | None) -> None:
    """Check that a DNN can be had; one of the user's own is made and traced.

    Args:
        name: The DNN's name.
        input_shape: Shape of one input without the batch dimension; ``None`` for the DNN's own.

    Raises:
        MecError: As :func:`model_graph`.
    """
    shape = own_input(name, input_shape)
    if is_own(name):
        model_graph(name, shape)


def model_graph(name: str, input_shape: tuple[int, ...] | Inputs | None = None) -> OperatorGraph:
    """The operator graph of a DNN, traced once per process.

    Args:
        name: A name of :func:`model_names`, one that was registered, or ``pkg.module:factory``.
        input_shape: Shape of one input without the batch dimension, or all arguments, as
            :func:`.inputs.parse_inputs` reads them; by default the DNN's own.

    Returns:
        The graph, for a batch of one unless the arguments have another, and the largest of the
        sizes that range.

    Raises:
        MecError: There is no such DNN, or it does not take that input shape.
    """
    shape = own_input(name, input_shape)
    # With the factory: a name may be given to it anew, e.g. in a notebook.
    return _model_graph(name, shape, DNNS.load(name) if is_own(name) else None)


@lru_cache(maxsize=32)
def _model_graph(name: str, shape: tuple[int, ...] | Inputs, factory: Any) -> OperatorGraph:
    from rllib_mec.dnn.tracing import trace

    if factory is not None:  # it need not know the meta device
        return trace(model_from_factory(name), **traced_with(shape), name=name)
    model = build_model(name, device="meta")
    return trace(model, **traced_with(shape, "meta"), name=name)
