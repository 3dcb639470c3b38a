"""Operator graphs of torchvision's classification models by name, traced without weights."""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rllib_mec.dnn.graph import OperatorGraph
from rllib_mec.errors import MecError, unknown

if TYPE_CHECKING:
    from torch import nn

INPUT_SHAPE = (3, 224, 224)
"""The RGB input on which the paper counts MACs and bits (Section V-A)."""

_BUILD_ARGUMENTS: dict[str, dict[str, Any]] = {
    # Their initialisation takes many seconds, and without weights to load it is of no use.
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
}


def model_names() -> list[str]:
    """Names of all classification models in the installed torchvision."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def build_model(name: str, device: str = "cpu") -> nn.Module:
    """Build a torchvision classification model in eval mode with random weights.

    Args:
        name: A name of :func:`model_names`.
        device: Where its parameters live; ``"meta"`` allocates none, enough for tracing.

    Returns:
        The module, in eval mode (GoogLeNet's and InceptionV3's auxiliary heads do not run).

    Raises:
        MecError: torchvision has no such model.
    """
    import torch
    import torchvision

    if name not in model_names():
        raise unknown("DNN", name, model_names())
    arguments = {"weights": None, **_BUILD_ARGUMENTS.get(name, {})}
    try:
        with torch.device(device):
            model = torchvision.models.get_model(name, **arguments)
    except NotImplementedError:  # RegNet computes its widths with tensors, which meta cannot
        with _parameters_on_meta():
            model = torchvision.models.get_model(name, **arguments).to(device)
    return model.eval()


def model_from_factory(path: str) -> nn.Module:
    """Make a DNN of the user's own.

    Args:
        path: ``PKG.MODULE:FACTORY`` of what returns the module, also one in the current folder.

    Returns:
        The module, in eval mode.

    Raises:
        MecError: There is no such factory, or it does not make a module.
    """
    from torch import nn

    module_name, _, factory_name = path.partition(":")
    if not module_name or not factory_name:
        raise MecError(f"--model must be PKG.MODULE:FACTORY, got {path!r}")
    sys.path.insert(0, "")  # a console script does not look into the current folder by itself
    try:
        factory: Any = importlib.import_module(module_name)
        for attribute in factory_name.split("."):
            factory = getattr(factory, attribute)
        made = factory()
    except (ImportError, AttributeError) as error:
        raise MecError(f"--model {path}: {error}") from None
    except TypeError as error:
        raise MecError(f"--model {path}: the factory must take no arguments: {error}") from None
    finally:
        sys.path.remove("")
    if not isinstance(made, nn.Module):
        raise MecError(f"--model {path} made a {type(made).__name__}, expected a torch.nn.Module")
    return made.eval()


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


@lru_cache(maxsize=32)
def model_graph(name: str, input_shape: tuple[int, ...] = INPUT_SHAPE) -> OperatorGraph:
    """The operator graph of a torchvision model, traced once per process on the meta device.

    Args:
        name: A name of :func:`model_names`.
        input_shape: Shape of one input without the batch dimension.

    Returns:
        The graph, for a batch of one.

    Raises:
        MecError: torchvision has no such model, or it does not take that input shape.
    """
    import torch

    from rllib_mec.dnn.tracing import trace

    model = build_model(name, device="meta")
    return trace(model, torch.empty(1, *input_shape, device="meta"), name=name)
