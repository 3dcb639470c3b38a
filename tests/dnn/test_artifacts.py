import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from rllib_mec.dnn import build_model, load_half, partition_table, save_half, split, trace
from rllib_mec.errors import MecError


class Small(nn.Module):
    """Convolutions with a skip, two results."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.fc = nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.a(x))
        y = torch.relu(self.norm(self.b(x))) + x
        return self.fc(y.mean((2, 3))), y.flatten(1).amax(1)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    module, x = Small().eval(), torch.randn(1, 3, 8, 8)
    return module, x, partition_table(trace(module, x), "operator")


LOAD_WITHOUT_THE_CODE = """
import sys, torch
head, tail = (torch.export.load(path).module() for path in sys.argv[1:3])
x, expected = torch.load(sys.argv[3])
assert all(torch.equal(a, b) for a, b in zip(tail(head(x)), expected, strict=True))
assert "rllib_mec" not in sys.modules
"""


@pytest.mark.slow
def test_export_programs_run_where_neither_code_nor_package_is(small, tmp_path):
    module, x, table = small
    paths = [str(tmp_path / name) for name in ("head.pt2", "tail.pt2", "io.pt")]
    for half, path in zip(split(module, table.point(2)), paths, strict=False):
        save_half(half, path)
    torch.save((x, module(x)), paths[2])
    code = [sys.executable, "-c", LOAD_WITHOUT_THE_CODE, *paths]
    done = subprocess.run(code, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("which", [0, 2, -1], ids=["input", "middle", "full local"])
def test_saved_halves_give_the_same_result(small, tmp_path, which):
    module, x, table = small
    point = table.points[which]
    with torch.no_grad():
        expected = module(x)
    for suffix, exact in ((".pt2", True), (".onnx", False)):
        halves = []
        for half, name in zip(split(module, point), ("head", "tail"), strict=True):
            save_half(half, tmp_path / f"{name}{suffix}")
            halves.append(load_half(tmp_path / f"{name}{suffix}"))
        sent = halves[0](x)
        assert tuple(sent) == (point.operators or tuple(table.points[0].graph.outputs))
        for got, wanted in zip(halves[1](sent), expected, strict=True):
            if exact:
                assert torch.equal(got, wanted)
            else:
                assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_onnx_runtime_agrees_on_a_real_dnn(tmp_path):
    import onnxruntime

    torch.manual_seed(0)
    module, x = build_model("squeezenet1_1"), torch.randn(1, 3, 64, 64)
    point = partition_table(trace(module, x), "pareto").point(2)
    feed = {"x": x.numpy()}
    for half, name in zip(split(module, point), ("head", "tail"), strict=True):
        save_half(half, tmp_path / f"{name}.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"))
        taken = [tensor.name for tensor in session.get_inputs()]
        given = [tensor.name for tensor in session.get_outputs()]
        if name == "head":
            assert tuple(given) == point.operators
        feed = dict(zip(given, session.run(given, {n: feed[n] for n in taken}), strict=True))
    np.testing.assert_allclose(feed["result_0"], module(x).detach(), rtol=1e-3, atol=1e-4)


def test_bad_paths_are_one_clear_line(small, tmp_path):
    module, _, table = small
    head, _ = split(module, table.point(1))
    with pytest.raises(MecError, match=r"unknown file suffix '\.pth'"):
        save_half(head, tmp_path / "head.pth")
    with pytest.raises(MecError, match="there is no file"):
        load_half(tmp_path / "head.pt2")
