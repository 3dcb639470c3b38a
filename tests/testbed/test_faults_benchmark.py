"""``benchmarks/testbed_faults.py``: its page, and how it counts rows."""

import pathlib
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "testbed_faults", raising=False)
    import testbed_faults

    return testbed_faults


def test_the_page_adds_up_what_was_lost(benchmark):
    rows = [benchmark.Row("a full disk", 74, 73, 1, "x"), benchmark.Row("fuzz", 9, 9, 2, "y")]
    text = benchmark.report(rows, "a machine", 0.5)
    assert "| a full disk | 74 | 73 | 1 | x |" in text
    assert text.endswith("**Lost: 3.**\n")


def test_no_page_is_made_of_a_fault_that_was_not_tried(benchmark):
    with pytest.raises(SystemExit, match="not tried: a full disk"):
        benchmark.report([benchmark.Row("a full disk", 0, 0, 0, "")], "a machine", 0.5)


def test_only_whole_rows_count(benchmark, tmp_path):
    table, tasks = tmp_path / "x.csv", tmp_path / "x.json"
    table.write_text("a,b\n1,2\n3,4\n5")
    tasks.write_text('{"tasks": [\n{},\n{}\n]}\n')
    from faults.ends import tasks_in

    assert (tasks_in(table), tasks_in(tasks)) == (2, 2)


def test_a_hostile_request_is_never_one_that_the_scheduler_would_take(benchmark):
    import random

    from faults.scheduler import _hostile

    rng = random.Random(0)
    made = [_hostile(rng) for _ in range(300)]
    assert {route for route, _, _ in made} >= {"register", "window", "leave"}
    assert any(len(body) > 2**21 for _, body, _ in made)
    assert any(b"NaN" in body for _, body, _ in made)
