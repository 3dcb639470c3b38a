import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.splitlines()[0])
def test_every_python_example_runs(code, ray_session, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip() or "print(" not in code


def test_every_file_that_is_named_exists():
    root = Path(__file__).parents[1]
    named = re.findall(r"`((?:rllib_mec|tuned_configs|benchmarks)/[\w/.]+)`", README)
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(named) > 8
    assert [path for path in named + linked if not (root / path).exists()] == []


def test_the_table_of_what_to_edit_names_files_that_exist_in_the_order_of_the_changes():
    root = Path(__file__).parents[1]
    _, table = README.split("\n| to change | edit |\n|---|---|\n")
    rows = [line.strip("| ").split(" | ") for line in table.split("\n\n")[0].splitlines()]
    assert len(rows) > 8
    for change, files in rows:
        paths = re.findall(r"`([^`]*)`", files)
        assert paths and [path for path in paths if not (root / path).exists()] == []
        assert files.count(" / ") == change.count(" / "), change


def test_the_table_of_what_to_edit_leaves_no_room_out():
    package = Path(__file__).parents[1] / "rllib_mec"
    _, table = README.split("\n| to change | edit |\n")
    rooms = [path.parent.name for path in package.glob("*/__init__.py")]
    assert [room for room in rooms if f"`rllib_mec/{room}/" not in table] == []


def test_every_example_is_named():
    examples = Path(__file__).parents[1].glob("examples/*.py")
    assert [path.name for path in examples if f"(examples/{path.name})" not in README] == []
