"""What both command lines are made of: lazy commands, and arguments checked as fields are.

Everything wrong with what the user gave is one line on stderr and exit code 2.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import click
from pydantic import AfterValidator, Json

from rllib_mec.errors import MecError, one_line, unknown
from rllib_mec.experiments import messages
from rllib_mec.network.checks import Count, Natural, Positive, checked
from rllib_mec.viz.plotting import check_installed, check_target

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class Value(click.ParamType):
    """A value that pydantic checks, so that flags obey the law of the fields.

    Args:
        kind: What pydantic takes as a type, e.g. of :mod:`rllib_mec.network.checks`.
        name: What ``--help`` shows for it.
    """

    def __init__(self, kind: Any, name: str):
        """Keep both."""
        self.kind, self.name = kind, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: Any) -> Any:
        """The value that a text stands for; see the base class."""
        return checked(param.opts[-1] if param else self.name, value, self.kind, texts=True)


def _new_file(path: Path) -> str:
    """The path of a file to be written, asked about before long work."""
    file = path.expanduser()
    if not file.absolute().parent.is_dir():
        raise MecError(f"there is no folder {str(file.parent)!r}")
    if file.is_dir():
        raise MecError(f"{str(path)!r} is a folder, expected the name of a file to be written")
    return str(file)


def _picture(path: Path) -> str:
    """The path of a figure to be drawn, asked about before long work."""
    check_installed()
    return str(check_target(path))


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) if size.isdecimal() else 0 for size in text.split(","))
    if min(sizes) < 1:
        raise MecError(f"--input must be sizes such as 3,224,224, got {text!r}")
    return sizes


COUNT, NATURAL, POSITIVE = Value(Count, "N"), Value(Natural, "N"), Value(Positive, "X")
JSON_OBJECT = Value(Json[dict[str, Any]], "JSON")
NEW_FILE = Value(Annotated[Path, AfterValidator(_new_file)], "FILE")
PICTURE = Value(Annotated[Path, AfterValidator(_picture)], "FILE")
SHAPE = Value(Annotated[str, AfterValidator(_shape)], "C,H,W")


class EachByItself(click.Option):
    """A repeatable flag that takes one word each time, so that others may follow it."""


class Command(click.Command):
    """A command whose help is printed as it is written, and whose repeatable flags take several.

    ``--flag a b`` is ``--flag a --flag b``, which click alone does not know.
    """

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help without wrapping the examples in it; see the base class."""
        formatter.write(f"\n{inspect.cleandoc(self.help or '')}\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Spread repeatable flags before click parses them; see the base class."""
        several = [p for p in self.params if getattr(p, "multiple", False)]
        repeatable = {f for p in several if not isinstance(p, EachByItself) for f in p.opts}
        words: list[str] = []
        flag, has_value = None, False
        for word in args:
            if word.startswith("-"):
                flag, has_value = (word if word in repeatable else None), False
            else:
                words += [flag] if flag and has_value else []
                has_value = True
            words.append(word)
        for param, times in self._given(ctx, words).items():
            if not isinstance(param, click.Option) or param.is_flag:
                continue
            if times > 1 and not (param.multiple or param.count):
                raise MecError(f"{param.opts[-1]} was given {times} times: give it once")
        return super().parse_args(ctx, words)

    def _given(self, ctx: click.Context, words: list[str]) -> Counter[click.Parameter]:
        """How often each parameter is among the words; nothing where they cannot be parsed."""
        try:
            return Counter(self.make_parser(ctx).parse_args(args=list(words))[2])
        except click.UsageError:
            return Counter()  # which click says itself


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
command = functools.partial(click.command, cls=Command, context_settings=_CONTEXT)
option = functools.partial(click.option, show_default=True)


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """While the block runs, SIGTERM and SIGHUP are Ctrl-C: what was done is kept.

    A SIGHUP comes when a terminal is closed; where it is ignored, as under nohup, it stays so.
    """
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def verbosity_option(function: Any) -> Any:
    """Give a command ``-v`` and ``-vv``, as a ``verbosity`` of 0, 1 or 2.

    Args:
        function: The command's function.
    """

    @functools.wraps(function)
    def with_verbosity(*args: Any, log_info: int, log_debug: bool, **flags: Any) -> int:
        return function(*args, verbosity=2 if log_debug else min(2, log_info), **flags)

    debug = click.option("--log-debug", is_flag=True, help="as -vv: all, with tracebacks")
    info = click.option("-v", "--log-info", count=True, help="say more, also what Ray does")
    return info(debug(with_verbosity))


class Group(click.Group):
    """Commands in modules of their own, each imported only when it is asked for.

    Args:
        name: The program.
        help: What it is for.
        modules: Command -> its module, which has a function of the command's name, and one line.
    """

    def __init__(self, name: str, help: str, modules: Mapping[str, tuple[str, str]]):
        """Know the names; import nothing."""
        super().__init__(name, help=help, context_settings=_CONTEXT)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names; see the base class."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; see the base class.

        Raises:
            MecError: There is none.
        """
        if cmd_name not in self._modules:
            raise unknown("command", cmd_name, self._modules)
        return getattr(importlib.import_module(self._modules[cmd_name][0]), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them; see the base class."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._modules.items()])


def run(group: Group, argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        group: Its commands; each returns an exit code, and finds ``argv`` as its context's object.
        argv: The words after the program's name; default: the process's own.

    Returns:
        The exit code: 0 fine, 1 failed, 2 bad input, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    messages.speak_as(str(group.name))
    try:
        code = group.main(args=argv, prog_name=group.name, standalone_mode=False, obj=argv)
        return code or OK
    except click.exceptions.NoArgsIsHelpError as no_command:
        print(no_command.format_message())
    except (MecError, click.UsageError) as bad_input:
        if {"-vv", "--log-debug"} & set(argv):
            traceback.print_exc()
        messages.error(_in_one_line(bad_input))
    except click.Abort:  # click's name for Ctrl-C
        messages.error("interrupted")
        return INTERRUPTED
    except SystemExit as end:  # a broken pipe, of `... | head`
        if isinstance(end.code, int | None):
            return end.code or OK
        messages.error(one_line(end))  # what code of the user's has to say
        return FAILED
    return BAD_INPUT


def _in_one_line(error: MecError | click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        flags = [flag for p in error.ctx.command.params for flag in p.opts if flag[:2] == "--"]
        return str(unknown("flag", error.option_name, flags, show=0))
    if isinstance(error, click.UsageError):
        text, path = error.format_message().rstrip("."), error.ctx and error.ctx.command_path
        return f"{text[:1].lower()}{text[1:]}{f' (see {path} --help)' if path else ''}"
    return str(error)
