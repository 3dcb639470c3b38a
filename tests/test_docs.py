"""README and the pages of the docs: their code runs, their commands and settings are accepted."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from urllib.parse import urlparse

import click
import pytest
import yaml

from rllib_mec.cli.mec import mec
from rllib_mec.cli.rllib import rllib
from rllib_mec.errors import MecError
from rllib_mec.experiments.specification import Specification
from rllib_mec.registry import ENVIRONMENTS, make_mdp

ROOT = Path(__file__).parents[1]
GENERATED = (
    "docs/api/",
    "docs/benchmarks/results/",
    "docs/algorithms/model_card.md",
    "docs/_build/",
)
PAGES = {
    name: path.read_text("utf-8")
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
    if not (name := str(path.relative_to(ROOT))).startswith(GENERATED)
}
README = PAGES["README.md"]


def blocks(language):
    """(page, code) of each block of a language."""
    pattern = rf"^( *)```{language}\n(.*?)^\1```"
    return [
        (page, re.sub(f"^{found[1]}", "", found[2], flags=re.MULTILINE))
        for page, text in PAGES.items()
        for found in re.finditer(pattern, text, flags=re.DOTALL | re.MULTILINE)
    ]


def named(block):
    return f"{block[0]}: {block[1].splitlines()[0][:40]}"


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"), ids=named)
def test_every_python_example_runs(block, ray_session, tmp_path, monkeypatch, capsys):
    page, code = block
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": "docs"})
    assert capsys.readouterr().out.strip() or "print(" not in code


def test_python_that_is_only_shown_is_python():
    for page, code in blocks("py"):
        compile(code, page, "exec")


def commands():
    """(page, words) of each line that calls one of our commands, placeholders included."""
    for page, code in blocks("bash"):
        for line in code.splitlines():
            words = shlex.split(line, comments=True)
            if words and Path(words[0]).name in ("rllib", "rllib-mec"):
                yield page, words


def test_every_command_has_only_flags_that_there_are(tmp_path, monkeypatch):
    """And values of their kinds; that its files exist is not asked."""
    monkeypatch.chdir(ROOT)
    found = list(commands())
    assert len(found) > 40
    for page, words in found:
        group = rllib if Path(words[0]).name == "rllib" else mec
        try:
            command = group.get_command(click.Context(group), words[1])
            command.make_context(words[1], words[2:])
        except (MecError, click.UsageError) as error:
            pytest.fail(f"{page}: {shlex.join(words)}: {error}")
        for file in words[2:]:
            if file.startswith("tuned_configs/"):
                assert (ROOT / file).exists(), f"{page}: {file}"


@pytest.mark.parametrize("block", blocks("yaml"), ids=named)
def test_every_setting_is_one_that_an_environment_or_an_experiment_takes(block):
    page, code = block
    (name, content), *_ = yaml.safe_load(code).items()
    if name != "env_config":
        Specification.of(content)
        content = content["config"]["env_config"]
        if any(isinstance(value, dict) for value in content.values()):
            return  # a search
    content.pop("randomize", None)
    refused = []
    for environment in ENVIRONMENTS:
        try:
            make_mdp(environment, content)
        except MecError as error:
            refused.append(f"{environment}: {error}")
    assert len(refused) < len(ENVIRONMENTS), (page, refused)


def test_every_file_that_is_named_exists():
    for page, text in PAGES.items():
        prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
        files = re.findall(r"`((?:rllib_mec|tuned_configs|benchmarks)/[\w/.]+)`", prose)
        assert [file for file in files if not (ROOT / file).exists()] == [], page


def test_every_link_leads_somewhere():
    """Sphinx asks it of pages too; here also README's links, and how external ones are written."""
    for page, text in PAGES.items():
        folder = (ROOT / page).parent
        prose = re.sub(r"^ *```.*?^ *```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)]+)\)", prose):
            if ":" in target:
                assert urlparse(target).scheme == "https" and urlparse(target).netloc, target
                continue
            path = str((folder / target.split("#")[0]).resolve().relative_to(ROOT))
            path = path.replace("docs/benchmarks/results/", "benchmarks/results/")
            path = path.replace("docs/algorithms/model_card.md", "rllib_mec/pretrained/README.md")
            if not path.startswith("docs/api/"):
                assert (ROOT / path).exists(), f"{page}: {target}"


def test_readme_is_a_page_whose_headline_is_that_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    import numbers_of_results

    assert len(README.splitlines()) <= 120
    assert numbers_of_results.headline_table(ROOT) in README
    sys.modules.pop("numbers_of_results")


def test_the_gallery_has_every_figure():
    figures = [path.name for path in ROOT.glob("benchmarks/results/*.png")]
    assert [name for name in figures if f"/{name})" not in PAGES["docs/gallery.md"]] == []


def test_the_table_of_what_to_edit_names_files_that_exist_in_the_order_of_the_changes():
    _, table = PAGES["docs/extend.md"].split("\n| to change | edit |\n|---|---|\n")
    rows = [line.strip("| ").split(" | ") for line in table.split("\n\n")[0].splitlines()]
    assert len(rows) > 8
    for change, files in rows:
        paths = re.findall(r"`([^`]*)`", files)
        assert paths and [path for path in paths if not (ROOT / path).exists()] == []
        assert files.count(" / ") == change.count(" / "), change


def test_the_table_of_what_to_edit_leaves_no_room_out():
    package = ROOT / "rllib_mec"
    table = PAGES["docs/extend.md"]
    rooms = [path.parent.name for path in package.glob("*/__init__.py")]
    assert [room for room in rooms if f"`rllib_mec/{room}/" not in table] == []


def test_every_example_is_named():
    text = "".join(PAGES.values())
    examples = ROOT.glob("examples/*.py")
    assert [path.name for path in examples if f"examples/{path.name})" not in text] == []


def test_every_reference_of_the_schema_resolves():
    from rllib_mec.experiments.specification import json_schema, schema_text

    referred = set(re.findall(r'"#/\$defs/(\w+)"', schema_text()))
    assert referred - json_schema()["$defs"].keys() == set()
