"""Whoever calls a public function finds in its docstring what each argument is.

ruff's D417 looks only into an ``Args:`` section that is there already, and for arguments that it
lacks; this asks for one, and that it has no others.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import rllib_mec

PACKAGE = Path(rllib_mec.__file__).parent


def public_functions(node, owner=None, prefix=""):
    """Name, class and node of each function that is public, nested ones and methods included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if child.name.startswith("_"):
                continue
            name = f"{prefix}{child.name}"
            is_class = isinstance(child, ast.ClassDef)
            if not is_class:
                yield name, owner, child
            yield from public_functions(child, child if is_class else None, f"{name}.")
        else:
            yield from public_functions(child, owner, prefix)


def parameters(function, owner):
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    names = [each.arg for each in every if each is not None]
    return [name for name in names if not (owner and name in ("self", "cls"))]


def is_exempt(function):
    """Click has a help text for each option; a wrapper has the docstring of what it wraps."""
    called = [each for each in function.decorator_list if isinstance(each, ast.Call)]
    return any(ast.unparse(each.func) in ("command", "functools.wraps") for each in called)


def says_what_its_arguments_are(function, owner):
    text = ast.get_docstring(function) or ""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", text, flags=re.MULTILINE)
    if section:
        told = re.findall(r"^    \*{0,2}(\w+):", section[1], flags=re.MULTILINE)
        return sorted(told) == sorted(parameters(function, owner))
    overrides = owner is not None and owner.bases
    return bool(overrides and re.search(r"\bsee the base class\b|\AAs ", text, flags=re.IGNORECASE))


def lacking(source):
    return [
        f"line {function.lineno}: {name}({', '.join(parameters(function, owner))})"
        for name, owner, function in public_functions(ast.parse(source))
        if parameters(function, owner)
        and not is_exempt(function)
        and not says_what_its_arguments_are(function, owner)
    ]


def test_every_public_function_says_what_its_arguments_are():
    found = {
        path.relative_to(PACKAGE).as_posix(): names
        for path in sorted(PACKAGE.rglob("*.py"))
        if (names := lacking(path.read_text()))
    }
    assert found == {}


ARGS = '"""Do.\n\n    Args:\n        a: It.\n    """'
BASE = '"""Do; see the base class."""'


@pytest.mark.parametrize(
    ("source", "is_fine"),
    [
        (f"def f(a):\n    {ARGS}", True),
        (f"def f(a, b):\n    {ARGS}", False),
        (f"def f(b):\n    {ARGS}", False),
        ('def f(a):\n    """Do."""', False),
        ("def f(a): pass", False),
        ("def f(*a): pass", False),
        ("def f(**a): pass", False),
        ("async def f(*, a): pass", False),
        ("@compiled\ndef f(a): pass", False),
        ("if True:\n    def f(a): pass", False),
        ("def f():\n    def g(a): pass", False),
        ("def _f():\n    def g(a): pass", True),
        ("def _f(a): pass", True),
        ("def f(): pass", True),
        ("@command(help=1)\ndef f(a): pass", True),
        ("def f():\n    @functools.wraps(h)\n    def g(a): pass", True),
        ("class A:\n    def f(self): pass", True),
        ("class A:\n    def f(self, a): pass", False),
        ("class _A:\n    def f(self, a): pass", True),
        ("class A:\n    class B:\n        def f(self, a): pass", False),
        (f"class A(B):\n    def f(self, a):\n        {BASE}", True),
        (f"class A:\n    def f(self, a):\n        {BASE}", False),
        (f"def f(a):\n    {BASE}", False),
        ('class A(B):\n    def f(self, a):\n        """As the base class\'s, sorted."""', True),
        ("class A:\n    @classmethod\n    def f(cls): pass", True),
        ("class A:\n    @staticmethod\n    def f(a): pass", False),
    ],
)
def test_the_check_itself(source, is_fine):
    assert (lacking(source) == []) == is_fine
