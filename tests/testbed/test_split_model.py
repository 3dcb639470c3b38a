"""The DNN that device and server share."""

from __future__ import annotations

import pytest
import tiny_model
import torch

from rllib_mec.errors import MecError
from rllib_mec.testbed.split_model import SplitModel, task_input


def load(**changes):
    options = {"method": "operator", **changes}
    return SplitModel.load(tiny_model.PATH, tiny_model.INPUT_SHAPE, **options)


def test_every_point_gives_the_whole_result_bit_for_bit(tiny, inputs):
    assert any(len(tiny.specs(i)) > 1 for i in range(tiny.full_local))  # a skip connection
    for x in inputs[:3]:
        whole = tiny.whole(x)
        for i in range(tiny.full_local):
            assert torch.equal(tiny.tail(i, tiny.head(i, x)), whole)


def test_the_same_seed_and_heads_make_the_same_fingerprint(tiny):
    heads = [point.head for point in tiny.points]
    assert load(heads=heads).fingerprint == load().fingerprint == tiny.fingerprint


@pytest.mark.parametrize("change", [{"seed": 1}, {"method": "vertical"}, {"heads": None}])
def test_other_weights_or_points_make_another_fingerprint(tiny, change):
    changed = load(**change)
    assert (changed.fingerprint != tiny.fingerprint) == (change != {"heads": None})


def test_one_changed_weight_makes_another_fingerprint(tiny, tmp_path):
    state = {name: tensor.clone() for name, tensor in tiny.module.state_dict().items()}
    state["head.bias"][3] += 1e-6
    torch.save(state, tmp_path / "weights.pt")
    assert load(weights=tmp_path / "weights.pt").fingerprint != tiny.fingerprint


def test_weights_from_a_file_are_the_same_as_from_the_seed(tiny, tmp_path):
    torch.save(tiny.module.state_dict(), tmp_path / "weights.pt")
    assert load(seed=7, weights=tmp_path / "weights.pt").fingerprint == tiny.fingerprint


def test_a_file_with_a_pickled_object_is_refused(tmp_path):
    torch.save(tiny_model.TinyNet(), tmp_path / "model.pt")
    with pytest.raises(MecError, match="holds no weights"):
        load(weights=tmp_path / "model.pt")


def test_weights_of_another_dnn_are_refused_in_one_line(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(MecError, match="holds no weights of 'tiny_model:TinyNet'") as caught:
        load(weights=tmp_path / "weights.pt")
    assert "\n" not in str(caught.value)
    with pytest.raises(MecError, match="cannot read the weights"):
        load(weights=tmp_path / "missing.pt")


def test_heads_that_are_none_are_refused(tiny):
    full = tiny.points[-1].head
    with pytest.raises(MecError, match="no partition point"):
        load(heads=[full << 1, full])
    with pytest.raises(MecError, match="no partition point"):
        load(heads=[full & ~1, full])  # without the input that it needs
    with pytest.raises(MecError, match="must be full local"):
        load(heads=[1])


def test_a_point_out_of_range_is_refused(tiny, inputs):
    with pytest.raises(MecError, match="out of range"):
        tiny.head(tiny.num_points, inputs[0])


def test_a_batch_gives_each_its_own_result(tiny, inputs):
    for i in range(tiny.full_local):
        assert tiny.can_batch(i)
        batch = [tiny.head(i, x) for x in inputs[:3]]
        for x, leaves in zip(inputs, tiny.tail_of_batch(i, batch), strict=False):
            torch.testing.assert_close(leaves[0], tiny.whole(x))


class Folding(torch.nn.Module):
    """Its shapes are bound to a batch of one."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.linear = torch.nn.Linear(196, 2)

    def forward(self, x):
        return self.linear(self.conv(x).reshape(1, -1)[:, :196])


def test_a_dnn_that_takes_no_batches_is_noticed(monkeypatch):
    monkeypatch.setattr(tiny_model, "Folding", Folding, raising=False)
    model = SplitModel.load("tiny_model:Folding", (3, 16, 16), method="operator")
    assert not model.can_batch(0)


class Structured(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(4, 2), torch.nn.Linear(2, 3)

    def forward(self, x):
        y = self.a(x)
        return {"y": y, "more": (self.b(y), y > 0)}


def test_structured_results_are_taken_apart_and_put_together(monkeypatch):
    monkeypatch.setattr(tiny_model, "Structured", Structured, raising=False)
    model = SplitModel.load("tiny_model:Structured", (4,))
    result = model.whole(torch.ones(1, 4))
    back = model.result(model.leaves(result))
    assert back.keys() == result.keys()
    assert torch.equal(back["more"][1], result["more"][1])


def test_a_task_has_the_same_input_wherever_it_is_drawn():
    x = task_input((3, 4, 4), 5, 7)
    torch.manual_seed(123)
    assert torch.equal(x, task_input((3, 4, 4), 5, 7))
    assert x.shape == (1, 3, 4, 4)
    assert not torch.equal(x, task_input((3, 4, 4), 5, 8))
    assert not torch.equal(x, task_input((3, 4, 4), 6, 7))
