"""How the tensors between head and tail are coded for the link: exact bytes, round trip, error."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rllib_mec.errors import MecError, unknown

if TYPE_CHECKING:
    import torch

_HEADER = struct.Struct("<ff")  # the value of code 0 and the step between codes


@dataclass(frozen=True)
class Codec:
    """One way to code a floating-point tensor; integer and boolean tensors always go as they are.

    Attributes:
        name: ``"float32"``, ``"float16"``, ``"int8"`` or ``"int4"``.
        bits: Bits per element.
        affine: Codes are ``round((x - low) / step)``, with ``low`` and ``step`` of each tensor as
            two float32 in front; else elements are plain little-endian floats.
    """

    name: str
    bits: int
    affine: bool

    def num_bytes(self, elements: int) -> int:
        """Exact bytes of a coded floating-point tensor with that many elements.

        Args:
            elements: Of the tensor.
        """
        header = _HEADER.size if self.affine and elements else 0
        return header + (elements * self.bits + 7) // 8

    def encode(self, tensor: torch.Tensor) -> bytes:
        """Code a tensor, in row-major order.

        Numbers too large for the codec (of bfloat16 or float32 in ``"float16"``, of float64 in all)
        become its largest; infinities stay what they are.

        Args:
            tensor: Any shape; its shape and dtype are not coded, both sides know them.

        Raises:
            MecError: The tensor holds NaN or infinity and the codec is affine.
        """
        import torch

        flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
        if not flat.is_floating_point():
            return flat.numpy().tobytes()
        if not self.affine:
            plain = torch.float16 if self.bits == 16 else torch.float32
            if flat.dtype != plain:
                exact, largest = flat.double(), torch.finfo(plain).max
                flat = torch.where(exact.isinf(), exact, exact.clamp(-largest, largest)).to(plain)
            return flat.numpy().tobytes()
        if not flat.numel():
            return b""
        flat = flat.double()
        if not bool(torch.isfinite(flat).all()):
            raise MecError(f"codec {self.name!r} cannot code NaN or infinity: use 'float32'")
        largest = torch.finfo(torch.float32).max  # of the header's numbers
        header, codes = self._quantise(flat.clamp(-largest, largest))
        if self.bits == 4:
            codes = torch.nn.functional.pad(codes, (0, codes.numel() % 2))
            codes = codes[0::2] | codes[1::2] << 4
        return header + codes.numpy().tobytes()

    def _quantise(self, flat: torch.Tensor) -> tuple[bytes, torch.Tensor]:
        import torch

        low, high = float(flat.min()), float(flat.max())
        header = _HEADER.pack(low, (high - low) / (2**self.bits - 1))
        low, step = _HEADER.unpack(header)  # what the other side will see
        if step == 0:
            return header, torch.zeros(flat.numel(), dtype=torch.uint8)
        codes = ((flat - low) / step).round().clamp(0, 2**self.bits - 1)
        return header, codes.to(torch.uint8)

    def decode(
        self, payload: bytes, shape: tuple[int, ...], dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """The tensor that :meth:`encode` coded, up to the codec's error.

        Args:
            payload: What :meth:`encode` returned.
            shape: The tensor's shape.
            dtype: The tensor's dtype; default float32.

        Raises:
            MecError: The payload is not as long as a tensor of this shape and dtype needs.
        """
        import numpy as np
        import torch

        dtype = dtype or torch.float32
        elements = torch.Size(shape).numel()
        expected = (
            self.num_bytes(elements) if dtype.is_floating_point else elements * dtype.itemsize
        )
        if len(payload) != expected:
            raise MecError(
                f"codec {self.name!r}: {len(payload)} bytes for a tensor of shape {tuple(shape)}"
                f" and {dtype}, expected {expected}"
            )
        if not elements:
            return torch.empty(shape, dtype=dtype)
        if not dtype.is_floating_point:
            return torch.frombuffer(bytearray(payload), dtype=dtype).reshape(shape)
        if not self.affine:
            plain = torch.float16 if self.bits == 16 else torch.float32
            flat = torch.frombuffer(bytearray(payload), dtype=plain)
            return flat.to(dtype).reshape(shape)
        low, step = _HEADER.unpack_from(payload)
        codes = np.frombuffer(payload, dtype=np.uint8, offset=_HEADER.size)
        if self.bits == 4:
            codes = np.stack([codes & 15, codes >> 4], axis=1).ravel()[:elements]
        flat = torch.from_numpy(low + step * codes.astype(np.float64))
        largest = torch.finfo(dtype).max
        flat = flat.clamp(-largest, largest)  # the step's rounding may lead beyond
        return flat.to(dtype).reshape(shape)

    def error(self, tensor: torch.Tensor) -> CodecError:
        """What a round trip of this tensor loses.

        Args:
            tensor: Of a floating-point type and any shape.
        """
        back = self.decode(self.encode(tensor), tuple(tensor.shape), tensor.dtype)
        gap = (back.double() - tensor.detach().cpu().double()).abs()
        if not gap.numel():
            return CodecError(0.0, 0.0, 0.0)
        rms = float(gap.square().mean().sqrt())
        signal = float(tensor.detach().cpu().double().square().mean().sqrt())
        return CodecError(float(gap.max()), rms, rms / signal if signal else 0.0)


@dataclass(frozen=True)
class CodecError:
    """The error of one round trip.

    Attributes:
        max_abs: Largest absolute error of an element.
        rms: Root mean square of the elements' errors.
        relative_rms: ``rms`` over the root mean square of the tensor itself.
    """

    max_abs: float
    rms: float
    relative_rms: float


CODECS = {
    codec.name: codec
    for codec in (
        Codec("float32", 32, affine=False),
        Codec("float16", 16, affine=False),
        Codec("int8", 8, affine=True),
        Codec("int4", 4, affine=True),
    )
}
"""The codecs by name."""


def codec(name: str) -> Codec:
    """The codec of that name.

    Args:
        name: One of :data:`CODECS`.

    Raises:
        MecError: There is none.
    """
    if name not in CODECS:
        raise unknown("codec", name, CODECS)
    return CODECS[name]
