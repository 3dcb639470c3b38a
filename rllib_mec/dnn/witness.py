"""Whether a captured program does what its module does, told without data and with it.

torch.fx shows a forward a stand-in for each tensor, of another class and with every attribute:
what a forward decides by ``isinstance``, ``hasattr`` or its own counter may differ from a call.
What it decides by asking for the very class, or whether it is traced, only shows in the results.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from rllib_mec.dnn.calls import Call
from rllib_mec.dnn.capture import AUGMENTED
from rllib_mec.dnn.nesting import take_apart
from rllib_mec.dnn.program import StandIn, storage_of, tensors_in

_SEED = 0x5EED

Step = tuple[Any, ...]
"""An operation, the types and shapes of the tensors that it reads, and its other arguments."""

_ANEW = {
    f"aten.{name}_.{kind}": f"aten.{name}.{kind}"
    for name in AUGMENTED.values()
    for kind in ("Tensor", "Scalar", "Tensor_Scalar")
}
"""What torch.fx records of an augmented assignment."""


class Record(TorchDispatchMode):
    """Notes each operation that reads something which depends on the inputs.

    Args:
        inputs: The tensors that are given.
        weights: Parameters and buffers, and what stands for them, each with its name.

    Attributes:
        steps: The operations, in order.
    """

    def __init__(
        self, inputs: list[torch.Tensor], weights: Iterable[tuple[str, torch.Tensor]]
    ) -> None:
        """Begin with nothing noted."""
        super().__init__()
        self.steps: list[Step] = []
        self._weights = list(weights)
        self._names = {id(tensor): name for name, tensor in self._weights}
        self._alive: list[torch.Tensor] = []  # so that no other takes its memory's number
        self._reached: set[int] = set()
        self._reach(inputs)

    def _reach(self, tensors: list[torch.Tensor]) -> None:
        self._alive += tensors
        self._reached.update(map(storage_of, tensors))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note one operation.

        Args:
            func: The operation.
            types: Of its arguments.
            args: The positional ones.
            kwargs: The others.
        """
        result = func(*args, **(kwargs or {}))
        leaves = pytree.tree_leaves((args, kwargs))
        read = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if any(storage_of(t) in self._reached for t in read):
            self._reach(tensors_in(result))
            if func._schema.is_mutable:
                self._reach(read)
            self.steps.append((_ANEW.get(str(func), str(func)), *map(self._told, leaves)))
        return result

    def _told(self, leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return self._names.get(id(leaf)), leaf.dtype, tuple(leaf.shape)
        return repr(leaf)


def weights_of(module: nn.Module, stand_in: StandIn | None) -> Iterator[tuple[str, torch.Tensor]]:
    """Name of each parameter and buffer, with itself and with what stands for it.

    Args:
        module: Whose they are.
        stand_in: Gives a tensor without data; None: they have none.
    """
    for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        yield name, tensor
        if stand_in is not None:
            yield name, stand_in(tensor)


def steps_of(
    make: Callable[[], nn.Module],
    call: Call,
    tensors: list[torch.Tensor],
    *,
    with_data: bool = False,
) -> list[Step] | None:
    """What a module does in a call; None where it cannot be told so.

    Args:
        make: Gives a shadow of the module, which the call may write to.
        call: How it is called.
        tensors: The call's.
        with_data: Run it, since a buffer of its own decides what it does.
    """
    module = make()
    on_meta = any(p.is_meta for p in module.parameters())
    fake = None if on_meta or with_data else FakeTensorMode(allow_non_fake_inputs=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if on_meta:
            stack.enter_context(torch.device("meta"))
        elif fake is not None:
            stack.enter_context(fake)
        given = [fake.from_tensor(t) if fake else torch.empty_like(t) for t in tensors]
        if with_data:
            given = [tensor.clone() for tensor in tensors]
        weights = weights_of(module, fake and fake.from_tensor)
        record = stack.enter_context(Record(given, weights))
        args, kwargs = call.make(given)
        try:
            module(*args, **kwargs)
        except Exception:
            return None
    return record.steps


def steps_of_program(
    program: fx.GraphModule, module: nn.Module, tensors: list[torch.Tensor]
) -> list[Step]:
    """What a captured program does when it runs with data.

    Args:
        program: Of the module.
        module: Whose weights it has.
        tensors: The call's.
    """
    given = [tensor.clone() for tensor in tensors]
    with torch.no_grad(), Record(given, weights_of(module, None)) as record:
        fx.Interpreter(program).run(*given)
    return record.steps


def same_results(
    program: fx.GraphModule, module: nn.Module, call: Call, tensors: list[torch.Tensor], exact: bool
) -> bool:
    """Whether a program gives what its module gives; also where that cannot be told.

    Args:
        program: Of the module.
        module: A shadow of it, which the call may write to.
        call: How it is called.
        tensors: The call's.
        exact: The program has the module's own operations, so that integers are equal, too, and
            what is drawn at random.
    """
    everything = (*tensors, *module.parameters(), *module.buffers())
    if any(t.is_meta for t in everything):
        return True

    def of_module() -> list[torch.Tensor]:
        args, kwargs = call.make([tensor.clone() for tensor in tensors])
        return take_apart(module(*args, **kwargs), lambda v: isinstance(v, torch.Tensor), "it")[1]

    def of_program() -> list[torch.Tensor]:
        results = fx.Interpreter(program).run(*(tensor.clone() for tensor in tensors))
        return [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]

    def alike(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
        """Whether results are the same.

        Args:
            a: Some.
            b: Others.
        """
        return len(a) == len(b) and all(map(_alike, a, b, itertools.repeat(exact)))

    with torch.no_grad(), own_seed() as seed:
        try:
            expected = of_module()
        except Exception:  # the example only has the right shapes
            return True
        seed()
        given = of_program()
        if exact or not _draws(program):
            return alike(expected, given)
        # An export draws by other operations: does the seed matter to both, or to none?
        torch.default_generator.manual_seed(_SEED + 1)
        others = of_program()
        torch.default_generator.manual_seed(_SEED + 1)
        return alike(expected, of_module()) == alike(given, others)


def _draws(program: fx.GraphModule) -> bool:
    tags = [getattr(node.target, "tags", ()) for node in program.graph.nodes]
    return any(torch.Tag.nondeterministic_seeded in each for each in tags)


def _alike(a: torch.Tensor, b: torch.Tensor, exact: bool) -> bool:
    """Whether two results differ by rounding at most."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.layout is not torch.strided or b.layout is not torch.strided:
        return a.layout is b.layout  # which is refused elsewhere
    if not (a.is_floating_point() or a.is_complex()):
        return not exact or torch.equal(a, b)
    a, b = a.nan_to_num(), b.nan_to_num()
    most = torch.finfo(a.dtype).eps ** 0.5 * a.abs().max() if a.numel() else 0.0
    return not a.numel() or bool((a - b).abs().max() <= most)


@contextlib.contextmanager
def own_seed() -> Iterator[Callable[[], bool]]:
    """What is drawn in a block begins with a seed of its own, and goes on as before after it.

    Yields:
        Begins anew with that seed; returns whether nothing was drawn and no other seed set.
    """
    generator = torch.default_generator
    before = generator.get_state()

    def seed() -> bool:
        drawn = generator.get_state()
        generator.manual_seed(_SEED)
        return torch.equal(drawn, generator.get_state())

    try:
        seed()
        yield seed
    finally:
        generator.set_state(before)
