"""Reading what a user wrote: YAML files, Python files and JSON flags, with one-line errors."""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from rllib_mec.errors import MecError, one_line

_URL_SCHEMES = ("http://", "https://")
_MOST_BYTES = 1_000_000
_TIMEOUT_S = 15.0


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``1e-4`` is a number and a repeated key is an error."""


# YAML 1.1 wants `1.0e-4`; people write `1e-4` and would get a string.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":  # its keys may be given anew
            continue
        key = loader.construct_object(key_node, deep=True)
        try:
            repeated = key in seen
        except TypeError:
            raise MecError(f"line {key_node.start_mark.line + 1}: a key must be a name") from None
        if repeated:
            raise MecError(f"line {key_node.start_mark.line + 1}: {key!r} is given twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)


def existing_file(path: str | Path) -> Path:
    """The path of a file that is there.

    Args:
        path: May begin with ``~``.

    Raises:
        MecError: It is missing or a directory.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise MecError(f"{path} is a directory, expected a .yaml or .py file")
    if not file.is_file():
        raise MecError(f"no such file: {path}")
    return file


def is_url(path: str) -> bool:
    """Whether a path is the URL of a file.

    Args:
        path: What was given for a file.
    """
    return path.lower().startswith(_URL_SCHEMES)


def fetch(url: str) -> str:
    """The text of a YAML file on the web.

    Args:
        url: ``http://`` or ``https://``.

    Raises:
        MecError: It is no YAML file, cannot be fetched in time, is too long, or is not text.
    """
    if url.partition("?")[0].endswith(".py"):
        raise MecError(f"{url}: only YAML is read from the web; download the Python file, read it")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            content = answer.read(_MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise MecError(f"{url} cannot be fetched: HTTP {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise MecError(f"{url} cannot be fetched: {one_line(reason)}") from None
    if len(content) > _MOST_BYTES:
        raise MecError(f"{url}: longer than {_MOST_BYTES // 1000:,} kB, which no experiment is")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise MecError(f"{url}: not a text in UTF-8") from None


def parse_yaml(text: str, source: object) -> Any:
    """Parse YAML.

    Args:
        text: The YAML.
        source: Where it is from, for messages.

    Raises:
        MecError: Syntax error (with its line), or repeated key.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except MecError as error:
        raise MecError(f"{source}, {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise MecError(f"{source}{where}: YAML syntax: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise MecError(f"{source}: cannot be read as YAML: {one_line(error)}") from None


def read_yaml(path: Path) -> Any:
    """Parse a YAML file.

    Args:
        path: Of a text in UTF-8.

    Raises:
        MecError: Syntax error (with its line), repeated key, or not text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise MecError(f"{path}: cannot be read as YAML: {one_line(error)}") from None
    return parse_yaml(text, path)


def read_settings(flag: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Parse what was given to a flag as ``key=value``, each value as in a YAML file.

    Args:
        flag: Its name, for messages.
        pairs: What was given to it.

    Raises:
        MecError: Not ``key=value``, a value that is no YAML, or a key that is given twice.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals or not text:
            raise MecError(f"{flag} takes key=value, got {pair!r}")
        if key in settings:
            raise MecError(f"{flag}: {key!r} is given twice")
        try:
            settings[key] = yaml.load(text, Loader=_Loader)  # a SafeLoader
        except (yaml.YAMLError, ValueError):  # the latter from dates such as 2001-99-99
            raise MecError(f"{flag}: the value of {key!r} is not valid YAML: {text!r}") from None
    return settings


def add_to_path(folder: Path) -> None:
    """Let this process and the workers that Ray starts later import modules from a folder.

    Args:
        folder: An absolute path.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    # Ray hands its workers the working directory, but not what was put on sys.path.
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if str(folder) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *paths])


def import_python(path: Path) -> ModuleType:
    """Run a Python file as a module and return it.

    Its folder is put on ``sys.path`` so that the workers can import it too.

    Args:
        path: The file; its stem is the module's name.

    Raises:
        MecError: The file raised an exception.
    """
    add_to_path(path.resolve().parent)
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MecError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        trace = error.__traceback__
        line = ""
        while trace is not None:
            if Path(trace.tb_frame.f_code.co_filename).resolve() == path.resolve():
                line = f", line {trace.tb_lineno}"
            trace = trace.tb_next
        if isinstance(error, SyntaxError) and error.lineno:
            line = f", line {error.lineno}"
        sys.modules.pop(name, None)
        text = " ".join(str(error).split())
        raise MecError(f"{path}{line}: {type(error).__name__}: {text}") from None
    return module
