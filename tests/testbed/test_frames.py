"""The binary frame: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import dataclasses
import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mec.testbed.frames import (
    DTYPES,
    ERROR,
    FRAME_CODECS,
    INFER,
    MAX_FRAME_BYTES,
    RESULT,
    Blob,
    Frame,
    FrameError,
    decode,
    encode,
    payload_bytes,
)

unhurried = settings(max_examples=100, deadline=None)
letters = "a0._é日😀"
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
names = st.text(letters, min_size=1, max_size=40)


@st.composite
def blobs(draw, codec):
    dtype, shape = draw(st.sampled_from(sorted(DTYPES))), draw(shapes)
    length = payload_bytes(codec, dtype, shape)
    payload = draw(st.binary(min_size=length, max_size=length))
    return Blob(draw(names), dtype, shape, payload)


@st.composite
def frames(draw):
    kind = draw(st.sampled_from([INFER, RESULT, ERROR]))
    codec = draw(st.sampled_from(FRAME_CODECS))
    return Frame(
        kind,
        draw(st.binary(min_size=16, max_size=16)),
        draw(st.binary(min_size=8, max_size=8)),
        draw(st.integers(0, 2**16 - 1)),
        codec,
        () if kind == ERROR else tuple(draw(st.lists(blobs(codec), max_size=4))),
        draw(st.text(letters)) if kind == ERROR else "",
        draw(st.integers(0, 2**32 - 1)),
    )


def with_right_checksum(data):
    """The bytes with the checksum that a sender of them would have computed."""
    header, body = bytes(data[:44]), bytes(data[48:])
    header = header[:40] + struct.pack("<I", len(body))
    return header + zlib.crc32(body, zlib.crc32(header)).to_bytes(4, "little") + body


@unhurried
@given(frames())
def test_a_frame_survives_the_round_trip(frame):
    assert decode(encode(frame)) == frame


def test_the_layout_is_the_documented_one():
    blob = Blob("ab", "int16", (1, 2), b"\x01\x00\x02\x00")
    frame = Frame(INFER, bytes(range(16)), b"fingprnt", 258, "int8", (blob,), server_us=5)
    body = b"\x02\x03\x02\x00" + b"\x04\0\0\0" + b"\x01\0\0\0\x02\0\0\0" + b"ab" + blob.payload
    header = b"MECF\x01\x01\x02\x01\x03\x01\0\0" + bytes(range(16)) + b"fingprnt"
    header += b"\x05\0\0\0" + bytes([len(body), 0, 0, 0])
    assert len(header) == 44
    assert encode(frame) == header + zlib.crc32(header + body).to_bytes(4, "little") + body


@unhurried
@given(frames(), st.data())
def test_a_part_of_a_frame_is_refused(frame, data):
    whole = encode(frame)
    with pytest.raises(FrameError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@unhurried
@given(frames(), st.binary(min_size=1, max_size=9))
def test_bytes_behind_a_frame_are_refused(frame, more):
    with pytest.raises(FrameError):
        decode(encode(frame) + more)


@unhurried
@given(frames(), st.data())
def test_any_flipped_bit_is_noticed(frame, data):
    damaged = bytearray(encode(frame))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(FrameError):
        decode(bytes(damaged))


@settings(max_examples=300, deadline=None)
@given(frames(), st.data())
def test_what_is_taken_is_encoded_as_the_same_bytes(frame, data):
    """Any change with a right checksum is refused, or is another valid frame."""
    changed = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    changed = with_right_checksum(changed)
    try:
        taken = decode(changed)
    except FrameError:
        return
    assert encode(taken) == changed


@unhurried
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    with pytest.raises(FrameError):
        decode(data)
    with pytest.raises(FrameError):
        decode(b"MECF" + data)


def test_a_shape_of_billions_allocates_nothing():
    frame = Frame(INFER, bytes(16), bytes(8), codec="raw", tensors=(Blob("x", "int8", (1,), b"a"),))
    data = bytearray(encode(frame))
    data[56:60] = b"\xff\xff\xff\xff"
    with pytest.raises(FrameError, match="needs 4294967295"):
        decode(with_right_checksum(data))


def test_a_frame_longer_than_the_limit_is_refused_by_its_length():
    frame = Frame(ERROR, bytes(16), bytes(8), message="x" * 100)
    assert decode(encode(frame), 148) == frame
    with pytest.raises(FrameError, match="148 bytes, at most 147"):
        decode(encode(frame), 147)


@pytest.mark.parametrize(
    "change",
    [
        {"request_id": b"short"},
        {"fingerprint": b"short"},
        {"point": 2**16},
        {"codec": "int5"},
        {"tensors": (Blob("", "int8", (), b"a"),)},
        {"tensors": (Blob("x", "int8", (1,) * 9, b"a"),)},
        {"tensors": (Blob("x", "complex64", (1,), b"a"),)},
        {"tensors": (Blob("x", "int8", (2,), b"a"),)},
        {"tensors": (Blob("x", "int8", (1,), b"a"),) * 256},
        {"tensors": (Blob("x", "int8", (MAX_FRAME_BYTES,), bytes(MAX_FRAME_BYTES)),)},
    ],
)
def test_what_does_not_fit_a_frame_is_not_encoded(change):
    frame = Frame(INFER, bytes(16), bytes(8), tensors=(Blob("x", "int8", (1,), b"a"),))
    with pytest.raises(FrameError):
        encode(dataclasses.replace(frame, **change))


def test_ten_thousand_mutations_raise_nothing_but_frame_errors():
    rng = random.Random(0)
    tensors = (Blob("a", "float32", (3, 2), bytes(24)), Blob("b", "bool", (4,), bytes(4)))
    valid = encode(Frame(INFER, bytes(16), bytes(8), 1, "float32", tensors))
    for _ in range(10_000):
        data = bytearray(valid)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        del data[rng.randrange(48, 2 * len(data)) :]
        try:
            decode(with_right_checksum(data))
        except FrameError as error:
            assert "\n" not in str(error)
