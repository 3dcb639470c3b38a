"""Fig. 13's script: its data, its table and its bad input, on images that cost nothing."""

import hashlib
import pathlib
import pickle
import sys

import numpy as np
import pytest
import torch

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("fig13_accuracy", "fig13_network", "fig13_report"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import fig13_accuracy

    return fig13_accuracy


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A CIFAR-10 of twelve random test images, with checksums of its own."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3072), dtype=np.uint8)
    files = {
        "test_batch": {"data": pixels, "labels": [i % 10 for i in range(12)]},
        "batches.meta": {"label_names": [str(i) for i in range(10)]},
    }
    digests = {}
    for name, values in files.items():
        (folder / name).write_bytes(pickle.dumps(values))
        digests[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", digests["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": digests["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return tmp_path, pixels


def test_cifar_images_are_normalised_and_limited(benchmark, cifar):
    folder, pixels = cifar
    images = benchmark.network.cifar10(folder, train=False, limit=5)
    assert images.inputs.shape == (5, 3, 32, 32) and images.labels.tolist() == [0, 1, 2, 3, 4]
    red = pixels[0, 0] / 255
    assert images.inputs[0, 0, 0, 0] == pytest.approx((red - 0.4914) / 0.2471, rel=1e-5)


def test_digits_are_split_without_overlap(benchmark):
    pytest.importorskip("sklearn")
    train, test = (benchmark.network.digits(train=part) for part in (True, False))
    assert (len(train.labels), len(test.labels)) == (1437, 360)
    both = torch.cat([train.inputs, test.inputs]).flatten(1)
    # scikit-learn's set has no two equal images: none may be on both sides.
    assert len(torch.unique(both, dim=0)) == 1797


@pytest.mark.slow
def test_weights_and_cifar_to_table_and_picture_and_resumed(benchmark, cifar, tmp_path, capsys):
    folder, _ = cifar
    weights, out, work = tmp_path / "resnet50.pt", tmp_path / "out", tmp_path / "work"
    torch.manual_seed(0)
    torch.save(benchmark.network.resnet50().state_dict(), weights)
    command = ["--data", str(folder), "--weights", str(weights), "--seeds", "1"]
    command += ["--latencies", "paper", "--out", str(out), "--work", str(work)]
    assert benchmark.main(command) == 0
    table = (out / "fig13_accuracy.md").read_text()
    assert "12 test images of CIFAR-10" in table
    emh = next(line for line in table.splitlines() if line.startswith("| EMH-PPO"))
    assert "| 0.366 | 6.35 |" in emh and "787.8 (paper's Table IV)" in emh
    assert (out / "fig13_accuracy.png").stat().st_size > 10_000
    rows = (out / "fig13_accuracy.csv").read_text().splitlines()
    # 4 points that send something, the degradations, 2 units, 4 methods, 1 seed
    assert len(rows) == 1 + 4 * len(benchmark.DEGRADATIONS) * 2 * 4
    # Again: everything comes from the file of finished rows, of which one was tampered with.
    (done,) = work.glob("rows_*.csv")
    lines = done.read_text().splitlines()
    lines[0] = ",".join([*lines[0].split(",")[:5], "0.5", "0.75"])
    done.write_text("\n".join(lines) + "\n")
    assert benchmark.main(command) == 0
    again = (out / "fig13_accuracy.csv").read_text().splitlines()
    assert sum(a != b for a, b in zip(rows, again, strict=True)) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--latencies", "our"], "did you mean 'ours'?"),
        (["--data", "no/such/folder"], "no CIFAR-10 in 'no/such/folder'"),
        (["--weights", "none.pt"], "there is no file 'none.pt'"),
        (["--policy", "no/such/checkpoint"], "no/such/checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(benchmark, capsys, command, message):
    if "--weights" in command:
        pytest.importorskip("sklearn")
    assert benchmark.main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("fig13_accuracy: error: ") and error.count("\n") == 1
    assert message in error
