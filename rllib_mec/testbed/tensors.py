"""Tensors in and out of frames: coding them, and checking them against what a half takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rllib_mec.dnn.codecs import CODECS
from rllib_mec.testbed.frames import RAW, Blob, Frame, FrameError


def to_blobs(tensors: Mapping[str, torch.Tensor], codec: str) -> tuple[Blob, ...]:
    """Code tensors for a frame.

    Args:
        tensors: By name.
        codec: One of :data:`~rllib_mec.testbed.frames.FRAME_CODECS`.

    Raises:
        MecError: NaN or infinity, which ``int8`` and ``int4`` cannot code.
    """
    return tuple(
        Blob(
            name,
            str(tensor.dtype).removeprefix("torch."),
            tuple(tensor.shape),
            raw_bytes(tensor) if codec == RAW else CODECS[codec].encode(tensor),
        )
        for name, tensor in tensors.items()
    )


def from_frame(frame: Frame, specs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Decode a frame's tensors.

    Args:
        frame: An INFER frame.
        specs: Name and :class:`~rllib_mec.dnn.program.TensorSpec` of each tensor expected.

    Raises:
        FrameError: Names, shapes or dtypes are not the expected ones.
    """
    given = [(blob.name, blob.shape, blob.dtype) for blob in frame.tensors]
    expected = [
        (name, tuple(spec.shape), str(spec.dtype).removeprefix("torch."))
        for name, spec in specs.items()
    ]
    if given != expected:
        raise FrameError(f"point {frame.point} takes the tensors {expected}, but got {given}")
    return {
        blob.name: _tensor(blob)
        if frame.codec == RAW
        else CODECS[frame.codec].decode(blob.payload, blob.shape, getattr(torch, blob.dtype))
        for blob in frame.tensors
    }


def result_blobs(leaves: Sequence[torch.Tensor]) -> tuple[Blob, ...]:
    """A result's tensors, raw.

    Args:
        leaves: The result's tensors, in order.
    """
    return to_blobs({f"result_{i}": leaf for i, leaf in enumerate(leaves)}, RAW)


def result_leaves(frame: Frame, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The result in a RESULT frame.

    Args:
        frame: The frame.
        like: Tensors of the shapes and dtypes that a result has.

    Raises:
        FrameError: Its tensors are not a result's.
    """
    given = [(blob.shape, blob.dtype) for blob in frame.tensors]
    expected = [(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for t in like]
    if frame.codec != RAW or given != expected:
        raise FrameError(f"a result has the tensors {expected}, but got {given} ({frame.codec})")
    return [_tensor(blob) for blob in frame.tensors]


def digest(leaves: Sequence[torch.Tensor]) -> str:
    """SHA-256 of a result's tensors.

    Args:
        leaves: The result's tensors, in order.
    """
    sha = hashlib.sha256()
    for leaf in leaves:
        sha.update(raw_bytes(leaf))
    return sha.hexdigest()


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """The elements themselves, in row-major order.

    Args:
        tensor: Of any type and shape.
    """
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes()  # bfloat16 has no NumPy dtype


def _tensor(blob: Blob) -> torch.Tensor:
    data = torch.from_numpy(np.frombuffer(blob.payload, dtype=np.uint8).copy())
    return data.view(getattr(torch, blob.dtype)).reshape(blob.shape)
