"""A DNN with its weights and partition points, the same on the device and on the server."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from rllib_mec.dnn import OperatorGraph, PartitionPoint, build_model, partition_table, split, trace
from rllib_mec.dnn.integrity import check_archive
from rllib_mec.dnn.models import INPUT_SHAPE
from rllib_mec.dnn.splitting import Head, Tail
from rllib_mec.errors import MecError, one_line
from rllib_mec.testbed.tensors import digest, raw_bytes

Tensors = dict[str, torch.Tensor]


class SplitModel:
    """A DNN that can be cut at any of its partition points.

    Args:
        name: What device and server call it.
        module: The DNN in eval mode, with its weights.
        graph: Its traced graph.
        points: The partition points on offer, index 0 first, of this graph or of one of the same
            operators; the last is full local.
        codec: What their sizes are counted in.

    Attributes:
        name: As given.
        module: As given.
        graph: As given.
        points: The points, of this graph.
        codec: As given.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        graph: OperatorGraph,
        points: Sequence[PartitionPoint],
        codec: str = "float32",
    ):
        """Keep them, and take down what the results look like."""
        self.name, self.module, self.graph, self.codec = name, module, graph, codec
        self.points = tuple(PartitionPoint(graph, point.head) for point in points)
        self._halves: dict[int, tuple[Head, Tail]] = {}
        self._weights_digest = _digest_of_weights(module)
        with torch.no_grad():
            leaves, self._result_spec = pytree.tree_flatten(module(self.example()))
        if not all(isinstance(leaf, torch.Tensor) for leaf in leaves):
            raise MecError(f"{name!r} returns values that are no tensors: they cannot be sent")

    @classmethod
    def load(
        cls,
        model: str,
        input_shape: Sequence[int] = INPUT_SHAPE,
        *,
        seed: int = 0,
        weights: str | Path | None = None,
        method: str = "pareto",
        codec: str = "float32",
        server_model: str = "constant",
        heads: Sequence[int] | None = None,
    ) -> SplitModel:
        """Build a DNN and tabulate its partition points.

        Args:
            model: A torchvision model's name, or ``PKG.MODULE:FACTORY`` of a DNN of your own.
            input_shape: Shape of one input without the batch dimension.
            seed: Seed of the random weights, the same on both sides.
            weights: File of a state dict (``torch.save(model.state_dict(), FILE)``) instead.
            method: As in :func:`rllib_mec.dnn.partition_table`.
            codec: As there; what the points' sizes are counted in.
            server_model: As there.
            heads: Bit set of each point's head, as another side found them, instead of a table.

        Raises:
            MecError: Unknown names, an input that the DNN does not take, weights that are no state
                dict of it, or a head that is none of it.
        """
        torch.manual_seed(seed)
        module = build_model(model)
        if weights is not None:
            _load_weights(module, weights, model)
        graph = trace(module, torch.zeros(1, *input_shape), name=model)
        if heads is None:
            table = partition_table(graph, method, codec=codec, server_model=server_model)
            return cls(model, module, graph, table.points, codec)
        _check_heads(graph, heads)
        points = [PartitionPoint(graph, head) for head in heads]
        return cls(model, module, graph, points, codec)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch dimension."""
        return self.graph.inputs[0].shapes[0][1:]

    @property
    def num_points(self) -> int:
        """S, the number of points."""
        return len(self.points)

    @property
    def full_local(self) -> int:
        """Index of the last point, where everything runs on the device."""
        return len(self.points) - 1

    @property
    def fingerprint(self) -> bytes:
        """8 bytes that differ where name, graph, weights or points do."""
        operators = [(node.name, node.shapes, node.parents) for node in self.graph.nodes]
        heads = [point.head for point in self.points]
        text = repr((self.name, operators, heads))
        return hashlib.sha256(text.encode() + self._weights_digest).digest()[:8]

    def example(self) -> torch.Tensor:
        """An input of zeros, a batch of one."""
        return torch.zeros(1, *self.input_shape)

    def local_mmacs(self, index: int) -> float:
        """Million MACs done on the device at a point.

        Args:
            index: Of the partition point.
        """
        return self.points[index].macs / 1e6

    def specs(self, index: int) -> Mapping[str, Any]:
        """Name and :class:`~rllib_mec.dnn.program.TensorSpec` of each tensor sent at a point.

        Args:
            index: Of the partition point.
        """
        return self._split(index)[1].tensors

    def head(self, index: int, x: torch.Tensor) -> Tensors:
        """Run the device's half.

        Args:
            index: Of the partition point.
            x: One input, with its batch dimension.
        """
        with torch.inference_mode():
            return self._split(index)[0](x)

    def tail(self, index: int, tensors: Tensors) -> Any:
        """Run the server's half.

        Args:
            index: Of the partition point.
            tensors: What the head gave, by name.
        """
        with torch.inference_mode():
            return self._split(index)[1](tensors)

    def whole(self, x: torch.Tensor) -> Any:
        """Run all of it.

        Args:
            x: One input, with its batch dimension.
        """
        with torch.inference_mode():
            return self.module(x)

    def probe_digest(self) -> str:
        """Digest of a fixed task's result: where it differs, so do the last bits of results."""
        return digest(self.leaves(self.whole(task_input(self.input_shape, 0, 0))))

    def leaves(self, result: Any) -> list[torch.Tensor]:
        """The tensors of a result, in order.

        Args:
            result: Of :meth:`tail` or :meth:`whole`.
        """
        return pytree.tree_leaves(result)

    def result(self, leaves: Sequence[torch.Tensor]) -> Any:
        """The result with these tensors; the inverse of :meth:`leaves`.

        Args:
            leaves: In their order.
        """
        return pytree.tree_unflatten(list(leaves), self._result_spec)

    def can_batch(self, index: int) -> bool:
        """Whether tensors of several tasks, one behind the other, go through a tail together.

        Args:
            index: Of the partition point.
        """
        inputs = [self.example(), self.example() + 1.0]
        heads = [self.head(index, x) for x in inputs]
        try:
            together = self.tail_of_batch(index, heads)
        except Exception:  # a DNN that was traced for one task may fail in any way
            return False
        return all(
            a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-5)
            for tensors, leaves in zip(heads, together, strict=True)
            for a, b in zip(leaves, self.leaves(self.tail(index, tensors)), strict=True)
        )

    def tail_of_batch(self, index: int, batch: Sequence[Tensors]) -> list[list[torch.Tensor]]:
        """Run the server's half once for several tasks.

        The last bits differ from those of single runs, as kernels choose another order to sum in.

        Args:
            index: Of the partition point.
            batch: What the heads of several tasks gave.

        Returns:
            For each task the leaves of its result.
        """
        stacked = {name: torch.cat([tensors[name] for tensors in batch]) for name in batch[0]}
        leaves = self.leaves(self.tail(index, stacked))
        return [[leaf[i : i + 1] for leaf in leaves] for i in range(len(batch))]

    def warm_up(self) -> None:
        """Run both halves of every point once, so that no task pays for the first run."""
        for index in range(self.full_local):
            self.tail(index, self.head(index, self.example()))
        self.whole(self.example())

    def _split(self, index: int) -> tuple[Head, Tail]:
        if index not in self._halves:
            if not 0 <= index < self.num_points:
                raise MecError(
                    f"partition point {index} is out of range: {self.name!r} has points 0 to"
                    f" {self.full_local}"
                )
            self._halves[index] = split(self.module, self.points[index])
        return self._halves[index]


def task_input(shape: Sequence[int], seed: int, index: int) -> torch.Tensor:
    """The input of a task, uniform in [0, 1): the same wherever it is drawn.

    Args:
        shape: Without the batch dimension.
        seed: Of the whole run.
        index: Of the task.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
    return torch.rand(1, *shape, generator=generator)


def _check_heads(graph: OperatorGraph, heads: Sequence[int]) -> None:
    for head in heads:
        inside = [i for i in range(len(graph.nodes)) if head >> i & 1]
        closed = all(head >> p & 1 for i in inside for p in graph.parent_ids[i])
        if head & ~graph.full_set or not closed:
            raise MecError(f"{graph.name!r} has no partition point with the head {head:#x}")
    if not heads or heads[-1] != graph.full_set:
        raise MecError(f"the last partition point of {graph.name!r} must be full local")


def _digest_of_weights(module: nn.Module) -> bytes:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(raw_bytes(tensor))
    return digest.digest()


def _load_weights(module: nn.Module, path: str | Path, model: str) -> None:
    try:
        if zipfile.is_zipfile(path):  # not so before PyTorch 1.6
            check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    except OSError as error:
        raise MecError(f"cannot read the weights {str(path)!r}: {error.strerror}") from None
    except MecError:
        raise
    except Exception as error:  # torch has many for a file that is no state dict
        raise MecError(f"{str(path)!r} holds no weights of {model!r}: {one_line(error)}") from None
