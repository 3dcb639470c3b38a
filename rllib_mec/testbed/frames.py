"""The binary frame between device and MEC server: no pickle, every length checked before use.

A frame is one HTTP body. All numbers are little-endian and unsigned.

| offset | bytes | field |
|---|---|---|
| 0 | 4 | magic ``MECF`` |
| 4 | 1 | version, 1 |
| 5 | 1 | kind: 1 infer (tensors of a cut), 2 result, 3 error (the body is UTF-8 text) |
| 6 | 2 | partition point, an index into the points that the server lists |
| 8 | 1 | codec: 0 raw, 1 float32, 2 float16, 3 int8, 4 int4 |
| 9 | 1 | number of tensors, at most 255; several where a skip connection crosses the cut |
| 10 | 2 | reserved, 0 |
| 12 | 16 | request id; a reply has its request's |
| 28 | 8 | fingerprint of DNN, weights and points; a reply has its request's |
| 36 | 4 | time in the server in microseconds, from arrival to reply; 0 in a request |
| 40 | 4 | length of the body |
| 44 | 4 | CRC-32 of all bytes of the frame but these four |
| 48 | … | body |

Each tensor of the body:

| offset | bytes | field |
|---|---|---|
| 0 | 1 | length of the name in bytes, at least 1 |
| 1 | 1 | dtype, an index into :data:`DTYPES` |
| 2 | 1 | number of dimensions, at most 8 |
| 3 | 1 | reserved, 0 |
| 4 | 4 | length of the payload |
| 8 | 4 a dimension | shape |
| … | … | name, UTF-8 |
| … | … | payload: floating-point tensors as :class:`rllib_mec.dnn.Codec` codes them, others raw |

Raw means the elements themselves in row-major order. The codec says exactly how long the payload of
a shape is, and no bytes may be left over: any frame that :func:`decode` takes, :func:`encode` turns
back into the same bytes.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, field

from rllib_mec.dnn.codecs import CODECS

INFER, RESULT, ERROR = 1, 2, 3
"""The kinds of frames."""

RAW = "raw"
"""The codec that changes nothing; results are sent so."""

FRAME_CODECS = (RAW, "float32", "float16", "int8", "int4")
"""Codecs by their number in the frame."""

DTYPES: dict[str, int] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}
"""Bytes of an element; a dtype's number in the frame is its place in here."""

MAX_FRAME_BYTES = 64 * 2**20
"""Longest frame that is ever decoded; a server refuses what its DNN cannot need, which is less."""

MAX_TENSORS, MAX_DIMENSIONS, MAX_NAME_BYTES = 255, 8, 255

_NAMES = tuple(DTYPES)
_FLOATS = frozenset(("float16", "bfloat16", "float32", "float64"))
_HEADER = struct.Struct("<4sBBHBBH16s8sII")  # all but the checksum
_TENSOR = struct.Struct("<BBBBI")
_MAGIC, _VERSION = b"MECF", 1


class FrameError(ValueError):
    """Bytes that are no frame; the message is one line."""


@dataclass(frozen=True)
class Blob:
    """A coded tensor.

    Attributes:
        name: The tensor's name at the cut.
        dtype: A key of :data:`DTYPES`, the dtype before coding.
        shape: Its shape.
        payload: Its coded elements.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    payload: bytes


@dataclass(frozen=True)
class Frame:
    """One message.

    Attributes:
        kind: :data:`INFER`, :data:`RESULT` or :data:`ERROR`.
        request_id: 16 bytes.
        fingerprint: 8 bytes.
        point: Index of the partition point.
        codec: One of :data:`FRAME_CODECS`.
        tensors: The coded tensors.
        message: Text of an error.
        server_us: Microseconds that the request was in the server.
    """

    kind: int
    request_id: bytes
    fingerprint: bytes
    point: int = 0
    codec: str = RAW
    tensors: tuple[Blob, ...] = field(default=())
    message: str = ""
    server_us: int = 0


def payload_bytes(codec: str, dtype: str, shape: tuple[int, ...]) -> int:
    """Exact bytes of a coded tensor.

    Args:
        codec: One of :data:`FRAME_CODECS`.
        dtype: Name of the tensor's type, a key of :data:`DTYPES`.
        shape: The tensor's.
    """
    elements = math.prod(shape)
    if codec == RAW or dtype not in _FLOATS:
        return elements * DTYPES[dtype]
    return CODECS[codec].num_bytes(elements)


def encode(frame: Frame) -> bytes:
    """The frame's bytes.

    Args:
        frame: What to send.

    Raises:
        FrameError: A field is out of its range, or a payload is not as long as its shape needs.
    """
    body = b"".join(_encode_tensor(blob, frame.codec) for blob in frame.tensors)
    if frame.kind == ERROR:
        body = frame.message.encode()
    if len(frame.request_id) != 16 or len(frame.fingerprint) != 8:
        raise FrameError("a request id has 16 bytes and a fingerprint 8")
    if len(frame.tensors) > MAX_TENSORS:
        raise FrameError(f"{len(frame.tensors)} tensors, a frame holds at most {MAX_TENSORS}")
    if _HEADER.size + 4 + len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"{len(body)} bytes of body, a frame has at most {MAX_FRAME_BYTES}")
    try:
        header = _HEADER.pack(
            _MAGIC,
            _VERSION,
            frame.kind,
            frame.point,
            FRAME_CODECS.index(frame.codec),
            len(frame.tensors),
            0,
            frame.request_id,
            frame.fingerprint,
            min(frame.server_us, 2**32 - 1),
            len(body),
        )
    except (struct.error, ValueError) as error:
        raise FrameError(f"the frame cannot be encoded: {error}") from None
    return b"".join((header, _checksum(header, body), body))


def decode(data: bytes, max_bytes: int = MAX_FRAME_BYTES) -> Frame:
    """The frame that some bytes are, every field checked.

    Args:
        data: One whole frame and nothing else.
        max_bytes: Longest frame to take.

    Raises:
        FrameError: They are none, with what is wrong in one line.
    """
    start = _HEADER.size + 4
    if len(data) > max_bytes:
        raise FrameError(f"the frame has {len(data)} bytes, at most {max_bytes} are taken")
    if len(data) < start:
        raise FrameError(f"{len(data)} bytes are too few for a frame's header of {start}")
    (magic, version, kind, point, codec, count, reserved, request_id, fingerprint, us, length) = (
        _HEADER.unpack_from(data)
    )
    if magic != _MAGIC:
        raise FrameError("not a frame: it does not begin with 'MECF'")
    if version != _VERSION:
        raise FrameError(f"frame version {version}, expected {_VERSION}")
    if start + length != len(data):
        raise FrameError(f"the frame has {len(data)} bytes, its header says {start + length}")
    body = memoryview(data)[start:]
    if data[_HEADER.size : start] != _checksum(data[: _HEADER.size], body):
        raise FrameError("the checksum is wrong")
    if kind not in (INFER, RESULT, ERROR) or codec >= len(FRAME_CODECS) or reserved:
        raise FrameError(f"unknown kind {kind}, codec {codec} or reserved bytes {reserved}")
    name = FRAME_CODECS[codec]
    message, tensors = "", ()
    if kind == ERROR:
        if count:
            raise FrameError(f"an error frame holds no tensors, this one says {count}")
        message = _text(body)
    else:
        tensors = _decode_tensors(body, count, name)
    return Frame(kind, request_id, fingerprint, point, name, tensors, message, us)


def _checksum(header: bytes, body: bytes | memoryview) -> bytes:
    return zlib.crc32(body, zlib.crc32(header)).to_bytes(4, "little")


def _text(data: bytes | memoryview) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise FrameError("a text in the frame is not UTF-8") from None


def _encode_tensor(blob: Blob, codec: str) -> bytes:
    name = blob.name.encode()
    if not 0 < len(name) <= MAX_NAME_BYTES or len(blob.shape) > MAX_DIMENSIONS:
        raise FrameError(
            f"tensor {blob.name!r}: expected a name of 1 to {MAX_NAME_BYTES} bytes"
            f" and at most {MAX_DIMENSIONS} dimensions"
        )
    if blob.dtype not in DTYPES:
        raise FrameError(f"tensor {blob.name!r} is of {blob.dtype}, which frames do not know")
    _check_length(blob, codec)
    dimensions = struct.pack(f"<{len(blob.shape)}I", *blob.shape)
    head = _TENSOR.pack(len(name), _NAMES.index(blob.dtype), len(blob.shape), 0, len(blob.payload))
    return b"".join((head, dimensions, name, blob.payload))


def _decode_tensors(body: memoryview, count: int, codec: str) -> tuple[Blob, ...]:
    blobs, at = [], 0
    for _ in range(count):
        if at + _TENSOR.size > len(body):
            raise FrameError("the body ends within a tensor's header")
        name_bytes, dtype, dimensions, reserved, length = _TENSOR.unpack_from(body, at)
        at += _TENSOR.size
        if not name_bytes or dtype >= len(_NAMES) or dimensions > MAX_DIMENSIONS or reserved:
            raise FrameError(f"a tensor has dtype {dtype} and {dimensions} dimensions, or no name")
        if at + 4 * dimensions + name_bytes + length > len(body):
            raise FrameError("the body ends within a tensor")
        shape = struct.unpack_from(f"<{dimensions}I", body, at)
        at += 4 * dimensions
        name = _text(body[at : at + name_bytes])
        at += name_bytes
        blob = Blob(name, _NAMES[dtype], shape, bytes(body[at : at + length]))
        _check_length(blob, codec)
        blobs.append(blob)
        at += length
    if at != len(body):
        raise FrameError(f"{len(body) - at} bytes are left over after the last tensor")
    return tuple(blobs)


def _check_length(blob: Blob, codec: str) -> None:
    expected = payload_bytes(codec, blob.dtype, blob.shape)
    if len(blob.payload) != expected:
        raise FrameError(
            f"tensor {blob.name!r} of shape {blob.shape} has {len(blob.payload)} bytes of payload,"
            f" codec {codec!r} needs {expected}"
        )
