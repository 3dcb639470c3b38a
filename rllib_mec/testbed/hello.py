"""What a server says of itself, checked before anything is done with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rllib_mec.dnn.codecs import CODECS
from rllib_mec.errors import MecError, named
from rllib_mec.testbed.frames import MAX_DIMENSIONS, MAX_FRAME_BYTES

_MAX_NAME, _MAX_POINTS, _MAX_HEAD_DIGITS, _MAX_ELEMENTS = 256, 10_000, 16_384, 2**26
_MAX_OLDER = 16


@dataclass(frozen=True)
class Hello:
    """What a server says of itself.

    Attributes:
        model: Name of its DNN.
        input_shape: Shape of an input without the batch dimension.
        heads: Bit set of each partition point's head.
        codec: What its points' sizes are counted in.
        fingerprint: Of DNN, weights and points.
        probe_digest: SHA-256 of its result for a fixed task (``SplitModel.probe_digest``).
        max_frame_bytes: Longest frame that it takes.
        exact: Whether float32 results are bit for bit those of a single run.
        scheduler: Whether it decides, too.
        older: Fingerprints of earlier weights that it still answers.
    """

    model: str
    input_shape: tuple[int, ...]
    heads: tuple[int, ...]
    codec: str
    fingerprint: bytes
    probe_digest: str
    max_frame_bytes: int
    exact: bool
    scheduler: bool
    older: tuple[bytes, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values; bit sets and bytes in hexadecimal."""
        return {
            **self.__dict__,
            "heads": [f"{head:x}" for head in self.heads],
            "fingerprint": self.fingerprint.hex(),
            "older": [fingerprint.hex() for fingerprint in self.older],
        }

    @classmethod
    def from_json(cls, values: Any) -> Hello:
        """The inverse of :meth:`to_json`.

        Args:
            values: The server's JSON, as parsed.

        Raises:
            MecError: They are none, or so large that they would harm who acts on them.
        """
        try:
            shape, heads = values["input_shape"], values["heads"]
            if not (0 < len(heads) <= _MAX_POINTS and 0 < len(shape) <= MAX_DIMENSIONS):
                raise ValueError(f"{len(heads)} points, an input of {len(shape)} dimensions")
            if max(map(len, heads)) > _MAX_HEAD_DIGITS or len(values["model"]) > _MAX_NAME:
                raise ValueError("a name or a head is too long")
            if values["codec"] not in CODECS:
                raise ValueError(f"there is no codec {values['codec']!r:.40}")
            hello = cls(
                model=str(values["model"]),
                input_shape=tuple(int(size) for size in shape),
                heads=tuple(int(head, 16) for head in heads),
                codec=str(values["codec"]),
                fingerprint=bytes.fromhex(values["fingerprint"]),
                probe_digest=str(values["probe_digest"]),
                max_frame_bytes=int(values["max_frame_bytes"]),
                exact=bool(values["exact"]),
                scheduler=bool(values["scheduler"]),
                older=tuple(map(bytes.fromhex, values.get("older", [])[:_MAX_OLDER])),
            )
            if min(hello.input_shape) < 1 or math.prod(hello.input_shape) > _MAX_ELEMENTS:
                raise ValueError(f"an input of shape {hello.input_shape}")
            if min(hello.heads) < 0 or not 0 < hello.max_frame_bytes <= MAX_FRAME_BYTES:
                raise ValueError("a head or a size is out of range")
            return hello
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise MecError(f"its hello is not one of a MEC server: {named(error)}") from None
