import json

import pytest

from rllib_mec import register_dnn
from rllib_mec.cli.mec import main
from rllib_mec.dnn import best_route, model_graph, partition_table
from rllib_mec.errors import MecError

MODULE = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, input_ids, mask=None, types=None, state=None, double=False):
        x = self.words(input_ids)
        x = x if mask is None else x * mask[..., None]
        x = x if types is None else x + types[..., None]
        x = x if state is None else x + state["h"][0] + state["h"][1]
        return self.out(x) * (2 if double else 1)

def tokens():
    return Tokens()

def taller():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 84, 2))

def deep():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Conv2d(8, 1, 1), nn.Flatten(), nn.Linear(36, 8), nn.Linear(8, 500)
    )

def without_macs():
    return nn.ReLU()

def broken():
    return 3

def needs(argument):
    return argument
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "my_dnns.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_table_marks_the_best_point_for_the_link(capsys):
    command = "partition resnet50 --codec int8 --bandwidth-mbps 100 --device-slowdown 5"
    assert main(command.split()) == 0
    out = capsys.readouterr().out
    assert "5 partition points (pareto, exact, int8" in out
    best = next(line for line in out.splitlines() if "<- best" in line)
    # 150 536 bytes at 100 Mbit/s take 12.04 ms, and the server 8.60 ms.
    assert best.split()[0] == "0" and "20.65" in best
    assert main("partition resnet50 --bandwidth-mbps 1".split()) == 0
    best = next(line for line in capsys.readouterr().out.splitlines() if "<- best" in line)
    assert "full local" in best and "43.02" in best


@pytest.mark.parametrize("method", ["pareto", "operator", "vertical"])
def test_json_says_what_the_table_says(capsys, method):
    assert main(["partition", "googlenet", "--method", method, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    table = partition_table("googlenet", method)
    assert [point["bytes"] for point in found["points"]] == (table.bits / 8).tolist()
    assert [tuple(point["operators"]) for point in found["points"]] == list(table.operators)
    assert found["best"] is None and found["epsilon"] == 0


def test_a_dnn_of_ones_own_measured_plotted_and_used_as_a_profile(own_module, capsys):
    command = "partition --model my_dnns:make --input 3,8,8 --method operator"
    assert main([*command.split(), "--measure", "p.json", "--plot", "cut.png"]) == 0
    assert "3 partition points" in capsys.readouterr().out
    assert (own_module / "cut.png").stat().st_size > 10_000
    total = sum(json.loads((own_module / "p.json").read_text())["latency_ms"])
    assert main([*command.split(), "--profile", "p.json", "--json", "--device-slowdown", "2"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert points[-1]["local_latency_ms"] == pytest.approx(2 * total)
    other = "partition --model my_dnns:taller --input 3,16,8 --profile p.json"
    assert main(other.split()) == 2
    assert (
        "on inputs of shapes 1x3x8x8, but 'my_dnns:taller' takes 1x3x16x8"
        in capsys.readouterr().err
    )


def test_arguments_of_any_kind_are_given_by_name(own_module, capsys):
    command = ["partition", "--model", "my_dnns:tokens", "--method", "operator", "--json"]
    for name in ("input_ids=int64[2,3]", "types=float32[2,3]", "double=true"):
        command += ["--input", name]
    for name in ("state.h.0=float32[4]", "state.h.1=float32[2,3,4]"):
        command += ["--input", name]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)["points"][0]
    assert first["operators"] == ["input_ids", "types", "state.h.0", "state.h.1"]
    assert first["bytes"] == 8 * 6 + 4 * (6 + 4 + 24)
    assert main([*command, "--measure", "p.json"]) == 0
    register_dnn("tokens_of_ones_own", "my_dnns:tokens", input={"input_ids": "int64[2,3]"})
    assert main("partition tokens_of_ones_own --json".split()) == 0
    # A word after the flag is the DNN's name, as ever.
    assert main("partition --input 3,64,64 alexnet".split()) == 0


def test_of_sizes_that_range_the_best_cut_is_told_at_several(own_module, capsys):
    command = "partition --model my_dnns:tokens --input input_ids=int64[batch:1..2,length:2..12]"
    command += " --bandwidth-mbps 1 --method operator"
    assert main(command.split()) == 0
    out = capsys.readouterr().out
    assert "best at other sizes" in out
    assert main([*command.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["points"][0]["bytes"] == 2 * 12 * 8
    assert found["sizes"] == {"batch": [1, 2], "length": [2, 12]}
    lengths = [row["length"] for row in found["best_by_size"] if row["batch"] == 2]
    assert {2, 12} <= set(lengths) and len(lengths) == len(found["best_by_size"]) - 1
    assert len(set(lengths)) == len(lengths)
    alone = command.replace("batch:1..2", "2").replace("length:2..12", "5")
    assert main([*alone.split(), "--json"]) == 0
    there = json.loads(capsys.readouterr().out)
    (row,) = (row for row in found["best_by_size"] if row["length"] == 4)
    assert row["latency_ms"] == pytest.approx(there["points"][there["best"]]["latency_ms"] * 4 / 5)
    with pytest.raises(MecError, match="all tasks are of one size, so give 'n' a number"):
        register_dnn("ranging", lambda: None, input={"x": "float32[n:1..4,3]"})


def test_only_cuts_that_the_device_can_hold_are_shown(capsys):
    command = ["partition", "mobilenet_v2", "--method", "vertical", "--json"]
    limited = [*command, "--device-memory-mb", "10", "--bandwidth-mbps", "1"]
    assert main(limited) == 0
    found = json.loads(capsys.readouterr().out)
    table = partition_table("mobilenet_v2", "vertical")
    assert len(found["points"]) == (table.head_memory_bytes <= 1e7).sum() < len(table)
    assert max(point["memory_bytes"] for point in found["points"]) <= 1e7
    assert main(limited[:-3] + limited[-2:]) == 2  # --device-memory-mb without its number
    assert main([word for word in limited if word != "--json"]) == 0
    best = capsys.readouterr().out.splitlines()[-1]
    assert "full local" not in best, "the device cannot hold it"


def test_a_cloud_behind_the_server_gets_its_part(own_module, capsys):
    command = "partition --model my_dnns:deep --input 1,8,8 --server-model share --codec int8"
    link = "--server-latency-ms 100 --device-slowdown 3 --bandwidth-mbps 0.005"
    cloud = "--cloud-latency-ms 1 --cloud-bandwidth-mbps 0.004"
    assert main([*command.split(), *link.split(), *cloud.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["three_way"]
    graph = model_graph("my_dnns:deep", (1, 8, 8))
    route = best_route(
        graph, [300.0, 100.0, 1.0], [0.005, 0.004], codec="int8", server_model="share"
    )
    assert found["latency_ms"] == pytest.approx(route.latency_ms)
    machines = [machine["operators"] for machine in found["machines"]]
    assert machines == [list(operators) for operators in route.operators]
    assert sum(map(len, machines)) == len(graph) and machines[0] and machines[2]
    assert [link["bytes"] for link in found["links"]] == [b / 8 for b in route.bits]
    assert main([*command.split(), *link.split(), *cloud.split()]) == 0
    out = capsys.readouterr().out
    assert f"best of all three-way cuts, one device: {route.latency_ms:.2f} ms" in out
    last = out.splitlines()[-3:]
    assert [line.split()[0] for line in last] == ["device", "server", "cloud"]
    assert last[0].endswith(", ".join(route.points[0].operators))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("partiton resnet50", "unknown command 'partiton': did you mean 'partition'?"),
        ("partition", "give either a torchvision model's name or --model"),
        ("partition resnet50 --model a:b", "give either"),
        ("partition resnet5O", "did you mean 'resnet50'?"),
        ("partition resnet50 --method parteo", "did you mean 'pareto'?"),
        ("partition resnet50 --codec int9", "unknown codec 'int9'"),
        ("partition resnet50 --server-model shared", "did you mean 'share'?"),
        ("partition resnet50 --input 3,224", "operator 'conv1' cannot run"),
        ("partition resnet50 --input 3,x,4", "--input must be sizes such as 3,224,224"),
        ("partition resnet50 --input 3,64,64 --input 3,8,8", "--input must be sizes such as 3,224"),
        ("partition resnet50 --input y=float32[1,3,8,8]", "missing a required argument: 'x'"),
        ("partition resnet50 --input x=float[1,3,8,8]", "unknown type of --input: x: 'float'"),
        ("partition resnet50 --input x=float32[1,x]", "--input: x must have sizes such as [1,16]"),
        ("partition resnet50 --input x=float32[1;3]", "--input: x must be such as int64[1,16]"),
        ("partition resnet50 --input x=float32[n:9..2,3]", "where one ranges, [1,length:1..64]"),
        ("partition resnet50 --input x=float32[n:1..9,n:1..8]", "'n' has two ranges, (1, 9) and"),
        (
            "partition resnet50 --measure x.json --input x=float32[n:1..9,3,64,64]",
            "a profile is of one size: give 'n' a number in --input",
        ),
        ("partition resnet50 --input x=float32[1,,3]", "--input: x must have sizes such as [1,16]"),
        ("partition resnet50 --input x=3", "--input names no tensor"),
        ("partition resnet50 --input x.=bool[1]", "'x.' is no argument's name"),
        ("partition resnet50 --input x=bool[1] --input x.a=bool[1]", "'x.a' is given beside 'x'"),
        ("partition resnet50 --bandwidth-mbps -3", "--bandwidth-mbps must be"),
        ("partition resnet50 --bandwidth-mbps nan", "--bandwidth-mbps must be"),
        (
            "partition resnet50 --bandwidth-mbps fast",
            "--bandwidth-mbps must be a number, but is 'fast'",
        ),
        ("partition resnet50 --device-slowdown 0", "--device-slowdown must be positive"),
        ("partition resnet50 --profile none.json", "cannot read the profile 'none.json'"),
        ("partition resnet50 --profile a --server-latency-ms 3", "not both"),
        (
            "partition resnet50 --profile a --measure b.json",
            "give --profile or --measure, not both",
        ),
        ("partition resnet50 --measure b.json --server-latency-ms 3", "not both"),
        (
            "partition --model my_dnns:tokens --input input_ids=int64[99999999,99999999]",
            "cannot make input_ids of shape [99999999,99999999], which is too large",
        ),
        ("partition --model my_dnns:make --input 3,9999999,9999999", "which is too large"),
        ("partition --model my_dnns:", "--model must be PKG.MODULE:FACTORY, got 'my_dnns:'"),
        ("partition --model :make", "--model must be PKG.MODULE:FACTORY, got ':make'"),
        ("partition resnet50 --plot no/such/cut.png", "--plot: there is no folder 'no/such'"),
        (
            "partition resnet50 --plot cut.xyz",
            "--plot: the name 'cut.xyz' must end with one of .png",
        ),
        ("partition resnet50 --plot cut", "--plot: the name 'cut' must end with one of .png"),
        (
            "partition resnet50 --device-memory-mb 0.1",
            "device_memory_mb must be at least 0.603 to hold the input of 'resnet50'",
        ),
        ("partition resnet50 --device-memory-mb 0", "--device-memory-mb must be positive"),
        (
            "partition resnet50 --cloud-latency-ms 3 --bandwidth-mbps 5",
            "--cloud-latency-ms needs --cloud-bandwidth-mbps too",
        ),
        ("partition resnet50 --cloud-bandwidth-mbps 3", "needs --bandwidth-mbps too"),
        (
            "partition resnet50 --device-memory-mb 9 --bandwidth-mbps 5 --cloud-latency-ms 3"
            " --cloud-bandwidth-mbps 5",
            "--device-memory-mb is not allowed with --cloud-latency-ms",
        ),
        ("partition --model my_dnns", "--model must be PKG.MODULE:FACTORY"),
        (
            "partition --model my_dnns:mak",
            "'my_dnns:mak': module my_dnns has no 'mak': did you mean 'make'?",
        ),
        ("partition --model no_such_module:f", "No module named 'no_such_module'"),
        ("partition --model my_dnns:broken", "made a int, expected a torch.nn.Module"),
        ("partition --model my_dnns:needs", "must take no arguments, but"),
        ("partition resnet50 --nonsense", "unknown flag '--nonsense'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(own_module, capsys, command, message):
    assert main(command.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rllib-mec: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_a_dnn_without_macs_is_cut_as_well(own_module, capsys):
    command = "partition --model my_dnns:without_macs --input 3,8,8 --bandwidth-mbps 5 --json"
    assert main(command.split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["local_mmacs"] for point in found["points"]] == [0, 0]
    assert all(point["latency_ms"] > 0 for point in found["points"])


def test_without_a_command_it_lists_them(capsys):
    assert main(["--help"]) == 0
    assert "partition" in capsys.readouterr().out
    assert main([]) == 2
