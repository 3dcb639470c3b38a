"""Docstrings as Sphinx should see them: signatures, Markdown tables, names that are exported."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from docutils import nodes
from sphinx.util.inspect import stringify_signature

_ROW = re.compile(r"^\s*\|(.*)\|\s*$")


def setup(app: Any) -> dict[str, Any]:
    """Register what changes docstrings and finds what they refer to.

    Args:
        app: Sphinx.
    """
    app.connect("autodoc-process-docstring", _from_markdown)
    app.connect("autodoc-process-signature", _as_written)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _where_it_is)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _from_markdown(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """PettingZoo's docstrings are Markdown: their headings and tables in reStructuredText."""
    result: list[str] = []
    table: list[list[str]] = []
    for line in [*lines, ""]:
        if row := _ROW.match(line):
            table.append([cell.strip() for cell in row.group(1).split(" | ")])
            continue
        result += _list_table(table)
        table = []
        heading = re.match(r"^###+ (.*)$", line)
        result += [f".. rubric:: {heading.group(1)}", ""] if heading else [line]
    lines[:] = result[:-1]


def _list_table(rows: list[list[str]]) -> list[str]:
    rows = [row for row in rows if set("".join(row)) - set("-:|")]  # not the line below the header
    if not rows:
        return []
    result = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        result += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return [*result, ""]


def _as_written(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, None] | None:
    """A function's signature with its types as the source names them, not what they stand for."""
    if what not in ("function", "method"):
        return None
    try:
        own = inspect.signature(inspect.unwrap(obj))
    except (TypeError, ValueError):
        return None
    names = list(own.parameters)
    if what == "method" and names and names[0] in ("self", "cls"):
        own = own.replace(parameters=list(own.parameters.values())[1:])
    return stringify_signature(own), None


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out a NamedTuple's fields, which its docstring describes, and what is not ours."""
    is_field = type(obj).__name__ == "_tuplegetter"
    module = str(getattr(obj, "__module__", ""))
    return True if is_field or module.startswith(("ray.", "pydantic.", "torch.")) else None


def _where_it_is(app: Any, env: Any, node: Any, contnode: Any) -> nodes.Node | None:
    """Resolve a name to where it is defined: exported or inherited ones, and attributes.

    An attribute that has no place of its own is linked to its class or module. What does not exist
    stays unresolved, which is a warning.
    """
    target, domain = node.get("reftarget", ""), env.domains["py"]
    if node.get("refdomain") != "py":
        return None
    if "._" in target:
        return contnode  # private: bases of public classes
    module, owner = node.get("py:module") or "rllib_mec", node.get("py:class")
    for start in (f"{module}.{owner}.{target}" if owner else "", f"{module}.{target}", target):
        for place in _places(start):
            if place in domain.objects:
                return domain.resolve_xref(
                    env, node["refdoc"], app.builder, "obj", place, node, contnode
                )
    return None


def _places(name: str) -> list[str]:
    """Full names under which something may be documented, the best first; none if it is not."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except (ImportError, ValueError):
            continue
        places = [found.__name__]
        for part in parts[count:]:
            if inspect.isclass(found):
                owners = [base for base in found.__mro__ if part in vars(base)]
                if owners:
                    places.insert(0, f"{owners[0].__module__}.{owners[0].__qualname__}.{part}")
                elif part not in {*_annotated(found), *_documented(found)}:
                    return []
                found = getattr(found, part, None)
                continue
            if not hasattr(found, part):
                return []
            home, found = found, getattr(found, part)
            place = f"{getattr(found, '__module__', None) or home.__name__}"
            places.insert(0, f"{place}.{getattr(found, '__qualname__', part)}")
        return places
    return []


def _annotated(cls: type) -> set[str]:
    return {name for base in cls.__mro__ for name in getattr(base, "__annotations__", {})}


def _documented(cls: type) -> set[str]:
    """Attributes that are set in ``__init__`` or described in the docstring."""
    source = "\n".join(inspect.getsource(base) for base in cls.__mro__ if _is_ours(base))
    return set(re.findall(r"self\.(\w+)", source))


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith("rllib_mec")
