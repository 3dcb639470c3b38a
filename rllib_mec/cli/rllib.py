"""The ``rllib`` command: ``rllib train`` and ``rllib evaluate``, as in Ray up to 2.40.

Everything wrong with what the user gave is one line on stderr and exit code 2, before Ray starts
and before anything is written. Ray is imported only once there is something to run, so that
``--help`` is quick.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import Any, NoReturn

import rllib_mec
from rllib_mec.errors import MecError
from rllib_mec.experiments import messages, quiet

BAD_INPUT = 2
INTERRUPTED = 130

_TRAIN_DESCRIPTION = """\
Train an RLlib algorithm on an environment.

  rllib train file tuned_configs/emh_ppo.yaml
  rllib train file my_config.py --stop '{"training_iteration": 20}'
  rllib train --algo PPO --env CartPole-v1 --stop '{"env_runners/episode_return_mean": 400}'

A YAML file holds one experiment:

  my-experiment:
    run: PPO                      # or EMH-PPO, or my_package.my_module:MyAlgorithm
    env: CartPole-v1              # or mec_task_window_v0, or a class path
    stop: {training_iteration: 50}
    config:
      lr: {grid_search: [1e-4, 3e-4]}       # or {loguniform: [1e-5, 1e-3]}, {choice: [..]}, ...
    num_samples: 1
    checkpoint_config: {checkpoint_frequency: 10, num_to_keep: 3}

A Python file holds `config` (an AlgorithmConfig) and, if you like, `stop`. Flags override the file.
Ctrl-C writes a checkpoint; the same command with --resume goes on from it.
"""

_EVALUATE_DESCRIPTION = """\
Measure a trained policy. The algorithm and the environment are read from the checkpoint.

  rllib evaluate ~/ray_results/my-experiment
  rllib evaluate CHECKPOINT --episodes 500 --seed 1 --json

CHECKPOINT is a checkpoint, a trial's folder (its newest checkpoint) or an experiment's folder (its
best trial). On this package's environments it prints the paper's metrics beside local only; on any
other the mean return of greedy episodes with its 95 % interval.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are ours: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise MecError(message)


def _train_parser(commands: Any) -> _Parser:
    parser = commands.add_parser(
        "train",
        help="train an algorithm: from a file, or from flags",
        description=_TRAIN_DESCRIPTION,
        usage="rllib train [file FILE] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", nargs="*", metavar="file FILE", help="a .yaml or .py file")
    what = parser.add_argument_group("what to train (each overrides the file)")
    what.add_argument("-a", "--algo", "-r", "--run", help="algorithm: a name or a class path")
    what.add_argument("-e", "--env", help="environment: an id or a class path")
    what.add_argument("-c", "--config", metavar="JSON", help="config keys, merged into the file's")
    what.add_argument("-s", "--stop", metavar="JSON", help="stop criteria, in place of the file's")
    what.add_argument("-n", "--experiment-name", metavar="NAME", help="folder of the results")
    what.add_argument("--num-samples", type=int, metavar="N", help="trials per grid point")
    what.add_argument("--storage-path", metavar="DIR", help="default ~/ray_results")
    what.add_argument("--restore", metavar="CHECKPOINT", help="start a new run from this state")
    what.add_argument("--framework", help="only torch is left in RLlib")
    saving = parser.add_argument_group(
        "checkpoints (default: every 5 minutes, the newest 3, and at the end)"
    )
    saving.add_argument("--checkpoint-freq", type=int, metavar="N", help="every N iterations")
    saving.add_argument(
        "--checkpoint-at-end", action=argparse.BooleanOptionalAction, help="default: yes"
    )
    saving.add_argument("--keep-checkpoints-num", type=int, metavar="N", help="keep the best N")
    saving.add_argument(
        "--checkpoint-score-attr",
        metavar="KEY",
        help="result key of 'best'; min-KEY: lower is better",
    )
    saving.add_argument("--resume", action="store_true", help="go on with the same experiment")
    search = parser.add_argument_group("search")
    search.add_argument("--scheduler", metavar="NAME", help="fifo, async_hyperband, pbt, ...")
    search.add_argument("--scheduler-config", metavar="JSON", help="arguments of the scheduler")
    cluster = parser.add_argument_group("Ray")
    cluster.add_argument(
        "--ray-address", metavar="ADDRESS", help="use this cluster; auto finds one"
    )
    cluster.add_argument("--ray-num-cpus", type=int, metavar="N", help="CPUs of a Ray of our own")
    cluster.add_argument("--ray-num-gpus", type=int, metavar="N", help="GPUs likewise")
    cluster.add_argument("--ray-num-nodes", type=int, metavar="N", help="emulate a cluster here")
    cluster.add_argument("--ray-object-store-memory", type=int, metavar="BYTES")
    cluster.add_argument("--ray-ui", action="store_true", help="start Ray's dashboard")
    logs = parser.add_argument_group("logging")
    logs.add_argument("--wandb-key", metavar="KEY", help="log to Weights & Biases")
    logs.add_argument("--wandb-project", metavar="NAME", help="default: the experiment's name")
    logs.add_argument("--wandb-run-name", metavar="NAME")
    logs.add_argument("-v", "--log-info", action="store_true", help="every result, Ray's messages")
    logs.add_argument("-vv", "--log-debug", action="store_true", help="everything, with tracebacks")
    gone = ("--local-mode", "--trace", "--local-dir", "--upload-dir", "--resources-per-trial")
    for flag in gone:
        parser.add_argument(flag, nargs="?", const=True, help=argparse.SUPPRESS)
    return parser


def _evaluate_parser(commands: Any) -> _Parser:
    parser = commands.add_parser(
        "evaluate",
        help="measure a trained policy",
        description=_EVALUATE_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a checkpoint, trial or experiment"
    )
    parser.add_argument("--episodes", type=int, metavar="N", help="default 200 on ours, else 20")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default 0")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("-a", "--algo", "-r", "--run", help="check that this is the algorithm")
    parser.add_argument("-e", "--env", help="another environment than in training")
    parser.add_argument(
        "--env-config", metavar="JSON", help="environment settings, merged into the training's"
    )
    parser.add_argument("-v", "--log-info", action="store_true", help="show Ray's messages")
    parser.add_argument("-vv", "--log-debug", action="store_true", help="tracebacks too")
    return parser


def build_parser() -> tuple[_Parser, dict[str, _Parser]]:
    """The parser of the command line, and those of its commands by name."""
    parser = _Parser(
        prog="rllib",
        description="Train and evaluate RLlib algorithms (Ray 2.60, new API stack).",
        epilog="`rllib COMMAND --help` says more.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rllib_mec {rllib_mec.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    return parser, {
        "train": _train_parser(commands),
        "evaluate": _evaluate_parser(commands),
    }


def _parse(argv: list[str]) -> argparse.Namespace:
    parser, commands = build_parser()
    if not argv:
        parser.print_help()
        raise SystemExit(BAD_INPUT)
    if not argv[0].startswith("-") and argv[0] not in commands:
        raise messages.unknown_key("command", argv[0], commands)
    args, rest = parser.parse_known_args(argv)
    for word in rest:
        flag = word.split("=")[0]
        if flag.startswith("-") and args.command:
            flags = [f for f in commands[args.command]._option_string_actions if f.startswith("--")]
            raise messages.unknown_key("flag", flag, flags)
        raise MecError(f"unexpected argument {word!r}")
    if args.command is None:
        raise MecError(f"no command: choose from {', '.join(commands)}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the ``rllib`` command.

    Args:
        argv: Arguments without the program's name; default ``sys.argv[1:]``.

    Returns:
        The exit code: 0 fine, 1 training failed, 2 bad input, 130 interrupted.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    verbosity = 0
    try:
        args = _parse(argv)
        verbosity = 2 if args.log_debug else int(args.log_info)
        quiet.set_environment()
        if args.command == "train":
            from rllib_mec.cli.train import train

            return train(args, argv, verbosity)
        from rllib_mec.cli.evaluate import evaluate

        return evaluate(args, verbosity)
    except MecError as bad_input:
        if verbosity > 1:
            traceback.print_exc()
        messages.error(bad_input)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(file=sys.stderr)
        messages.error("interrupted")
        return INTERRUPTED
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    except BrokenPipeError:  # `rllib ... | head`
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())
