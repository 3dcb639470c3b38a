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
