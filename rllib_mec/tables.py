"""Tables of named parts, open to other packages: the mechanism under every ``register_...``.

A part is named in three ways: by a line in one of our tables, by a call of
``rllib_mec.register_...``, or by a class path ``pkg.module:Name``, which needs no registration.
Other packages register theirs in an entry point of the group :data:`GROUP`, a function without
arguments, or a module whose import does it::

    [project.entry-points."rllib_mec.plugins"]
    my_package = "my_package.mec:register"

Entry points are loaded when a name is asked for that is not known yet, or all names are; one that
fails is reported in one line, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from rllib_mec.errors import MecError, named, nearest, unknown, users_code

GROUP = "rllib_mec.plugins"
"""Group of the entry points by which other packages register their parts."""

_LOGGER = logging.getLogger(__name__)

late_sources: list[Callable[[], None]] = []
"""Asked, in order, to register what they know before a name is given up as unknown."""


class Entry(NamedTuple):
    """A named part.

    Attributes:
        target: What the name stands for, or its path ``pkg.module:Name``.
        facts: What is known of it besides.
    """

    target: Any
    facts: Mapping[str, Any]

    @property
    def path(self) -> str:
        """``pkg.module:Name`` of the target."""
        return self.target if isinstance(self.target, str) else path_of(self.target)

    def means(self, other: Entry) -> bool:
        """Whether the other one is this one again; a class that is defined anew is.

        Args:
            other: What is given under the same name.
        """
        by_name = "<" not in self.path  # of two lambdas the paths are equal
        same = self.path == other.path if by_name else self.target is other.target
        return same and dict(self.facts) == dict(other.facts)


class Table(Mapping[str, str]):
    """Names -> paths ``pkg.module:Name`` of parts, which are imported when asked for.

    A look-up by class path finds what can be imported under it, so that ``name in table`` holds for
    a path that leads to a part of this kind.

    Args:
        kind: What the parts are, for messages, e.g. ``"policy"``.
        own: The names of this package.
        check: Path of a function ``(name, part) -> part`` that refuses by a :class:`MecError` what
            is no such part, and may make one of what stands for it.
    """

    def __init__(self, kind: str, own: Mapping[str, str], check: str):
        """Begin with the names of this package."""
        self.kind = kind
        self._check = check
        self._entries = {name: Entry(path, {}) for name, path in own.items()}

    def add(self, name: str, target: Any, **facts: Any) -> bool:
        """Give a part a name.

        Args:
            name: The name.
            target: The part, or its path ``pkg.module:Name``.
            **facts: What is to be known of it besides.

        Returns:
            Whether the table has changed.

        Raises:
            MecError: The name is another part's, or no name.
        """
        if not isinstance(name, str) or not name or ":" in name:
            raise MecError(
                f"the name of a {self.kind} must be a text without a colon, but is {name!r}"
            )
        if isinstance(target, str) and not _is_path(target):
            raise MecError(f"{self.kind} {name!r} must be PKG.MODULE:NAME, but is {target!r}")
        new, old = Entry(target, facts), self._entries.get(name)
        if old is not None and not new.means(old):
            raise MecError(
                f"the {self.kind} name {name!r} is taken by {old.path}: "
                f"register {new.path} under another name"
            )
        self._entries[name] = new
        return old is None or new.target is not old.target

    def entry(self, name: str) -> Entry:
        """What a name, or a class path, stands for.

        Args:
            name: The name or path.

        Raises:
            MecError: Nothing, with the nearest name suggested; or a path that leads nowhere.
        """
        found = self._find(name)
        if found is not None:
            return found
        if isinstance(name, str) and _is_path(name):
            return Entry(name, {})
        raise unknown(self.kind, name, self)

    def load(self, name: str) -> Any:
        """Import the part that a name or a class path stands for.

        Args:
            name: The name or path.

        Raises:
            MecError: There is none, it cannot be imported, or it is no such part.
        """
        target = self.entry(name).target
        if isinstance(target, str):
            target = import_object(target, self.kind)
        return import_object(self._check, "check")(name, target)

    def name_of(self, part: type) -> str:
        """The first name of a class; without one, the class's own name.

        Args:
            part: The class.
        """
        path = path_of(part)
        names = (name for name, entry in self._entries.items() if entry.path == path)
        return next(names, part.__name__)

    def known(self) -> dict[str, Entry]:
        """What has been registered so far, without loading entry points."""
        return dict(self._entries)

    def __getitem__(self, name: str) -> str:
        """The path of what a name stands for."""
        if name not in self:
            raise KeyError(name)
        return self.entry(name).path

    def __contains__(self, name: object) -> bool:
        """Whether a name, or a class path, stands for a part of this kind."""
        if not isinstance(name, str):
            return False
        if self._find(name) is not None:
            return True
        if not _is_path(name):
            return False
        try:
            self.load(name)
        except MecError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        """All names, those of other packages included."""
        load_plugins()
        return iter(dict(self._entries))

    def __len__(self) -> int:
        """How many names there are."""
        load_plugins()
        return len(self._entries)

    def _find(self, name: object) -> Entry | None:
        if name not in self._entries:
            for source in (load_plugins, *late_sources):
                source()
                if name in self._entries:
                    break
        return self._entries.get(name)  # type: ignore[arg-type]


DNNS = Table("DNN", {}, check="rllib_mec.dnn.models:check_factory")
"""Name of a user's DNN -> path of its factory; ``input`` is a fact of it.

The other tables stand in :mod:`rllib_mec.registry`; this one is read further below, by ``dnn``.
"""


def path_of(part: Any) -> str:
    """``pkg.module:Name`` of a class or function.

    Args:
        part: The class or function.
    """
    name = getattr(part, "__qualname__", type(part).__qualname__)
    return f"{getattr(part, '__module__', type(part).__module__)}:{name}"


def import_object(path: str, kind: str) -> Any:
    """Import what ``pkg.module:Name`` names, also from the working folder.

    Args:
        path: The path.
        kind: What it is, for messages.

    Raises:
        MecError: The module cannot be imported, or has no such name.
    """
    module_name, _, name = path.partition(":")
    with _working_folder_on_path():
        with users_code(f"cannot import {kind} {path!r}"):
            found: Any = importlib.import_module(module_name)
    for attribute in name.split("."):
        if not hasattr(found, attribute):
            close = nearest(attribute, dir(found))
            hint = f": did you mean {close!r}?" if close else ""
            raise MecError(f"{kind} {path!r}: module {module_name} has no {attribute!r}{hint}")
        found = getattr(found, attribute)
    return found


@functools.cache
def load_plugins() -> None:
    """Load the entry points of other packages, once; one that fails is reported in one line."""
    for entry_point in importlib.metadata.entry_points(group=GROUP):
        try:
            loaded = entry_point.load()
            if callable(loaded):
                loaded()
        except (Exception, SystemExit) as error:  # another package's fault must not be ours
            _LOGGER.warning(
                "plugin %r (%s, %s) failed to load: %s",
                entry_point.name,
                entry_point.value,
                _where(error, entry_point),
                named(error),
            )


def _where(error: BaseException, entry_point: importlib.metadata.EntryPoint) -> str:
    """The file and line that failed; where there is none, the distribution that names it."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [
        frame
        for frame in frames
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    if theirs:
        return f"{theirs[-1].filename}:{theirs[-1].lineno}"
    return str(entry_point.dist.locate_file("")) if entry_point.dist else "?"


def _is_path(text: str) -> bool:
    module, colon, name = text.partition(":")
    return bool(colon) and all(
        part.isidentifier() for part in [*module.split("."), *name.split(".")]
    )


@contextlib.contextmanager
def _working_folder_on_path() -> Iterator[None]:
    """A console script does not look into the working folder by itself, ``python -m`` does."""
    sys.path.insert(0, "")
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module has tidied up by itself
            sys.path.remove("")
