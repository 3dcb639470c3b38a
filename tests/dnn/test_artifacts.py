import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from rllib_mec.dnn import (
    build_model,
    load_half,
    partition_table,
    save_half,
    split,
    split_route,
    trace,
)
from rllib_mec.errors import MecError
from rllib_mec.testbed.split_model import _load_weights


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


class Describes(nn.Module):
    def __init__(self, told):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)
        self.told = told

    def forward(self, x):
        return {"y": self.b(self.a(x)), "told": self.told, "empty": []}


def test_a_result_comes_from_a_file_in_plain_containers_or_is_refused(tmp_path):
    x = torch.ones(2, 4)
    for told in (3, None, 0.5):
        head, tail = split(module := Describes(told).eval(), 1, x)
        save_half(tail, tmp_path / "tail.pt2")
        result = load_half(tmp_path / "tail.pt2")(head(x))
        assert type(result) is dict and torch.equal(result["y"], module(x)["y"])
        assert result["told"] == told and result["empty"] == []
    for told in ("text", torch.float32, object()):
        _, tail = split(Describes(told).eval(), 1, x)
        with pytest.raises(MecError, match=r"which no \.pt2 file can hold"):
            save_half(tail, tmp_path / "tail.pt2")


class Means(nn.Module):
    """An inner value that torch names as one of the results is."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        y = self.conv(x)
        return self.pool(y).flatten(1) + 1, y.mean(1)


def test_inner_values_of_onnx_files_take_no_result_s_name(tmp_path):
    module, x = Means().eval(), torch.randn(1, 3, 8, 8)
    point = partition_table(trace(module, x)).points[-1]
    head, _ = split(module, point)
    save_half(head, tmp_path / "head.onnx")
    given = load_half(tmp_path / "head.onnx")(x)
    for name, expected in head(x).items():
        torch.testing.assert_close(given[name], expected)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halves")
    for half in split(Describes(3).eval(), 1, torch.ones(2, 4)):
        save_half(half, folder / f"{type(half).__name__.rsplit('_')[-1]}.pt2")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file of every kind: its path, what runs it, and what that gives."""
    folder = tmp_path_factory.mktemp("written")
    module, x = Describes(3).eval(), torch.ones(2, 4)
    points = partition_table(trace(module, x), "operator").points[1:]
    given, files = x, {}
    for part, name in zip(split_route(module, points), ("head", "middle", "tail"), strict=True):
        for suffix in (".pt2", ".onnx"):
            save_half(part, folder / f"{name}{suffix}")
            files[f"{name}{suffix}"] = functools.partial(_run, given)
        given = part(given)
    torch.save(module.state_dict(), folder / "weights.pt")
    files["weights.pt"] = _weights
    return {folder / name: (run, run(folder / name)) for name, run in files.items()}


def _run(given, path):
    return list(map(torch.as_tensor, pytree.tree_leaves(load_half(path)(given))))


def _weights(path):
    module = Describes(3)
    _load_weights(module, path, "described")
    return list(module.state_dict().values())


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".pt"])
def test_a_damaged_file_is_told_or_gives_the_same(written, tmp_path, suffix):
    paths = [path for path in written if path.suffix == suffix]
    told = tried = 0
    for path in paths:
        run, expected = written[path]
        whole = path.read_bytes()
        at = [*range(1, len(whole), max(1, len(whole) // 40)), len(whole) - 1]
        broken = [whole[:i] + bytes([whole[i] ^ 255]) + whole[i + 1 :] for i in at]
        damaged = tmp_path / path.name
        for content in (b"", whole[: len(whole) // 2], *broken):
            damaged.write_bytes(content)
            tried += 1
            try:
                given = run(damaged)
            except MecError as error:
                assert "\n" not in str(error) and repr(str(damaged)) in str(error)
                told += 1
            else:  # in what fills up a zip archive
                assert suffix != ".onnx" and all(map(torch.equal, given, expected))
    assert told > tried / 4


def test_any_reader_of_onnx_takes_the_digest_for_metadata(written):
    import onnx

    for path in written:
        if path.suffix == ".onnx":
            model = onnx.load(path)
            onnx.checker.check_model(model)
            assert [p.key for p in model.metadata_props][-1] == "rllib_mec.sha256"


@pytest.mark.parametrize(
    ("half", "given", "message"),
    [
        ("head", (torch.ones(1, 4),), r"shape \(1, 4\), but the half was saved for .* \(2, 4\)"),
        ("head", (torch.ones(2, 4).double(),), "is of torch.float64"),
        ("head", (), "must be 1 in number, but is 0"),
        ("tail", ({},), "must be tensors 'b'"),
        ("tail", (torch.ones(2, 4),), "must be tensors 'b', but is a Tensor"),
        ("tail", ({"b": [1.0]},), "'b' must be a tensor, but is a list"),
    ],
)
def test_a_wrong_call_of_a_half_from_a_file_is_one_line(files, half, given, message):
    with pytest.raises(MecError, match="takes its arguments by place, but got x by name"):
        load_half(files[half])(x=torch.ones(2, 4))
    with pytest.raises(MecError, match=message) as told:
        load_half(files[half])(*given)
    assert "\n" not in str(told.value)


def test_only_halves_are_saved_and_only_where_there_is_a_folder(files, tmp_path):
    head, _ = split(Describes(3).eval(), 1, torch.ones(2, 4))
    with pytest.raises(MecError, match="must be a file in a folder that exists"):
        save_half(head, tmp_path / "none" / "head.pt2")
    with pytest.raises(MecError, match="expected a half of split"):
        save_half(nn.Linear(2, 2), tmp_path / "head.pt2")  # type: ignore[arg-type]
