"""Pages that cannot go stale: every module, each command's own help, what configurations take."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import rllib_mec
from rllib_mec.experiments import specification

_INDEX = """# API reference

Every module of the package, from its docstrings, one page a room. A room imports only from the
rooms below it in this list, which [CONTRIBUTING](../contributing.md) explains; what a room exports
is named at the top of its page.

{rooms}

:::{{toctree}}
:hidden:

{pages}
:::
"""


def setup(app: Any) -> dict[str, Any]:
    """Register the directives, and write the pages of the API before Sphinx looks for pages.

    Args:
        app: Sphinx.
    """
    app.connect("builder-inited", lambda app: write_api(Path(app.srcdir) / "api"))
    app.connect("builder-inited", lambda app: write_results(Path(app.srcdir)))
    app.add_directive("command-help", CommandHelp)
    app.add_directive("schema-fields", Fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_api(folder: Path) -> None:
    """Write a page for each room of the package, and one that lists them.

    Args:
        folder: Where; nothing else is kept there.
    """
    found = {
        info.name: info.ispkg for info in pkgutil.iter_modules(rllib_mec.__path__, "rllib_mec.")
    }
    rooms = {
        name: [name, *_modules_below(name)] for name, is_package in found.items() if is_package
    }
    rooms = dict(sorted(rooms.items(), key=lambda room: _LAYERS.index(room[0].split(".")[1])))
    alone = ["rllib_mec", *(name for name, is_package in found.items() if not is_package)]
    pages = {name.split(".")[1]: _page(name, modules) for name, modules in rooms.items()}
    pages["foundations"] = _page("rllib_mec", alone, "The package itself, and what all rooms use")
    lines = [f"- {{mod}}`{name}`: {_first_line(name)}" for name in rooms]
    index = _INDEX.format(rooms="\n".join(lines), pages="\n".join(pages))
    _write(folder, {**pages, "index": index})


def write_results(docs: Path) -> None:
    """Write a page for each page of the benchmarks' results, which includes it, and the model card.

    Args:
        docs: The folder of all pages.
    """
    results = sorted((docs.parent / "benchmarks" / "results").glob("*.md"))
    include = "```{{include}} ../../../benchmarks/results/{}\n:relative-images:\n```\n"
    _write(
        docs / "benchmarks" / "results", {file.stem: include.format(file.name) for file in results}
    )
    card = (docs.parent / "rllib_mec" / "pretrained" / "README.md").read_text("utf-8")
    _write(docs / "algorithms", {"model_card": card.replace("](../../bench", "](../bench")})


def _write(folder: Path, pages: Mapping[str, str]) -> None:
    """Write what has changed, so that Sphinx builds only that anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        file = folder / f"{name}.md"
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")


_LAYERS = (
    "cli experiments testbed evaluation algorithms policies envs viz network dnn pretrained".split()
)


def _modules_below(package: str) -> Iterator[str]:
    path = importlib.import_module(package).__path__
    for info in pkgutil.iter_modules(path, f"{package}."):
        yield info.name
        if info.ispkg:
            yield from _modules_below(info.name)


def _first_line(module: str) -> str:
    return (inspect.getdoc(importlib.import_module(module)) or "").split("\n")[0].replace("``", "`")


def _page(name: str, modules: list[str], title: str = "") -> str:
    exported = getattr(importlib.import_module(name), "__all__", ())
    lines = [f"# {title or f'`{name}`'}", ""]
    if exported:
        names = ", ".join(f"{{py:obj}}`~{name}.{each}`" for each in exported)
        lines += [f"`from {name} import …`: {names}.", ""]
    for module in modules:
        importlib.import_module(module)  # Sphinx would first try it as type checkers see it
        lines += [f"## `{module}`", "", "```{eval-rst}", f".. automodule:: {module}", "```", ""]
    return "\n".join(lines)


class CommandHelp(SphinxDirective):
    """What ``COMMAND --help`` prints, for each command of a group: ``module:group``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A section for each command; see the base class."""
        module, _, name = self.arguments[0].partition(":")
        group: Any = getattr(importlib.import_module(module), name)
        context = click.Context(group, info_name=group.name, max_content_width=100)
        sections = [self._section(group, context)]
        for each in group.list_commands(context):
            command = group.get_command(context, each)
            inner = click.Context(command, info_name=each, parent=context, max_content_width=100)
            sections.append(self._section(command, inner))
        return sections

    def _section(self, command: click.Command, context: click.Context) -> nodes.Node:
        title = context.command_path
        section = nodes.section(ids=[nodes.make_id(title)], names=[title])
        heading = nodes.title("", "", nodes.literal("", title))
        text = command.get_help(context)
        section += [heading, nodes.literal_block(text, text, language="none")]
        self.state.document.note_implicit_target(section, section)
        return section


class Fields(SphinxDirective):
    """The keys of a part of the experiment files' schema: type, default and what each means."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A definition list; see the base class."""
        schema = specification.json_schema()
        definitions = schema["$defs"]
        if self.arguments[0] == "scenario":
            config = definitions["Experiment"]["properties"]["config"]
            fields = config["properties"]["env_config"]["properties"]
        else:
            fields = definitions[self.arguments[0]]["properties"]
        lines: list[str] = []
        for name, field in fields.items():
            own = field
            if (
                self.arguments[0] == "scenario"
            ):  # what is behind the search space that may stand there
                own = {**field.get("anyOf", [{}])[0], "description": field["description"]}
            default = own.get("default")
            usual = "" if default is None else f", default `{json.dumps(default)}`"
            lines += [f"`{name}`", f": {_type(own)}{usual}", ""]
            lines += [f"  {' '.join(_markdown(own.get('description', '')).split())}", ""]
        return self.parse_text_to_nodes("\n".join(lines))


def _type(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(map(_type, choices)))
    if "$ref" in schema:
        return f"`{schema['$ref'].rsplit('/', 1)[1]}`"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    limits = (
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
    )
    bounds = [f"{sign} {schema[key]:g}" for key, sign in limits if key in schema]
    kind = {"null": "nothing", "array": "list", "object": "mapping"}.get(
        schema.get("type", ""), schema.get("type", "any value")
    )
    if kind == "list":
        items = schema.get("items", schema.get("prefixItems", [{}])[0])
        kind = f"list of {_type(items)}" if items else kind
    return " ".join([kind, ", ".join(bounds)]).strip()


def _markdown(text: str) -> str:
    """A docstring's literals and references as Markdown has them."""
    return text.replace("``", "`").replace(":func:`", "{func}`").replace(":class:`", "{class}`")
