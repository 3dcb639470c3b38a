import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mec.dnn import CODECS, codec
from rllib_mec.errors import MecError

SHAPES = [(0,), (1,), (7,), (2, 3, 5), (1, 16, 9, 9)]


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_byte_count_is_exact_and_the_error_bounded(name, shape):
    made = codec(name)
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    payload = made.encode(tensor)
    assert len(payload) == made.num_bytes(tensor.numel())
    back = made.decode(payload, shape)
    assert back.shape == tensor.shape and back.dtype == tensor.dtype
    if not tensor.numel():
        return
    span = float(tensor.max() - tensor.min())
    half_step = {"float32": 0.0, "float16": 2**-11 * 12, "int8": span / 510, "int4": span / 30}
    assert made.error(tensor).max_abs <= half_step[name] * 1.001 + 1e-6 * span


def test_byte_counts_by_hand():
    assert [codec(n).num_bytes(7) for n in ("float32", "float16", "int8", "int4")] == [
        28, 14, 8 + 7, 8 + 4,
    ]  # fmt: skip


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_affine_codes_err_by_half_a_step_at_most(values):
    tensor = torch.tensor(values)
    for name, levels in (("int8", 255), ("int4", 15)):
        step = float(tensor.double().max() - tensor.double().min()) / levels
        scale = float(tensor.double().abs().max())
        assert codec(name).error(tensor).max_abs <= step / 2 + 1e-6 * scale + 1e-30


def test_a_constant_tensor_comes_back_as_it_was():
    for name in CODECS:
        assert codec(name).error(torch.full((5,), 2.5)).max_abs == 0


def test_float16_saturates_rather_than_overflows():
    back = codec("float16").decode(codec("float16").encode(torch.tensor([1e9, -1e9])), (2,))
    assert back.tolist() == [65504, -65504]


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_numbers_of_any_type_saturate_in_any_codec(name, dtype):
    made, most = codec(name), torch.finfo(dtype).max
    tensor = torch.tensor([most, -most, most], dtype=dtype)
    back = made.decode(made.encode(tensor), (3,), dtype)
    held = min(most, 65504.0 if name == "float16" else torch.finfo(torch.float32).max)
    expected = torch.tensor([held, -held, held], dtype=torch.float64).to(dtype)
    torch.testing.assert_close(back, expected, rtol=1e-6, atol=0)


def test_infinities_stay_where_the_codec_has_them():
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        tensor = torch.tensor([float("inf"), -float("inf"), 1.0], dtype=dtype)
        for name in ("float32", "float16"):
            assert codec(name).error(tensor[2:]).max_abs == 0
            assert torch.equal(codec(name).decode(codec(name).encode(tensor), (3,), dtype), tensor)
        with pytest.raises(MecError, match="NaN or infinity"):
            codec("int8").encode(tensor)


def test_integers_and_masks_go_as_they_are():
    for tensor in (
        torch.tensor([[3, -4]]),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j, 3j]).conj(),
    ):
        payload = codec("int4").encode(tensor)
        back = codec("int4").decode(payload, tuple(tensor.shape), tensor.dtype)
        assert torch.equal(back, tensor)


def test_bad_input_is_one_clear_line():
    with pytest.raises(MecError, match="unknown codec 'int6'"):
        codec("int6")
    with pytest.raises(MecError, match="NaN or infinity"):
        codec("int8").encode(torch.tensor([1.0, float("nan")]))
    with pytest.raises(MecError, match=r"3 bytes for a tensor of shape .* expected 8"):
        codec("float32").decode(b"abc", (2,))
