"""entry_point: argv to config, logging, errors to one line and an exit code."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import BaseModel

from xmadapter.config import load
from xmadapter.errors import ConfigError, ResourceError, XMAdapterError

__all__ = ["entry_point", "exit_status"]

_Config = TypeVar("_Config", bound=BaseModel)


def entry_point(
    config_type: type[_Config], *, dry_run: Callable[[_Config], None] | None = None
) -> Callable[[Callable[[_Config], None]], Callable[[], None]]:
    """Turn a function of a config into a command.

    The command takes `--config FILE`, any number of `a.b=value` overrides, and `--debug`. It exits with the status that
    `xmadapter.errors` gives to each error; a bug keeps Python's status 1 and its traceback.

    Args:
        config_type: What the file must hold.
        dry_run: What `--dry-run` does instead; without it the command does not know that option.
    """

    def decorate(main: Callable[[_Config], None]) -> Callable[[], None]:
        def command() -> None:
            def run() -> None:
                arguments = _parse(main, dry_run is not None)
                config = load(config_type, arguments.config, arguments.override)
                (dry_run if dry_run is not None and arguments.dry_run else main)(config)

            sys.exit(exit_status(run, "--debug" in sys.argv))

        command.__doc__ = main.__doc__
        return command

    return decorate


def exit_status(action: Callable[[], None], debug: bool = False) -> int:
    """Run an action; print one line for an error a user can mend, and return its status.

    With `debug` the error keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, format="%(message)s")
    try:
        action()
    except XMAdapterError as error:
        if debug:
            raise
        return _report(error)
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the process is leaving already
        print("interrupted: what was finished is kept; the same command resumes", file=sys.stderr)
        return 130
    except MemoryError:
        return _report(ResourceError("memory is exhausted; what was finished is kept; lower batch_size or max_actors"))
    except BrokenPipeError:
        # The reader of our output went away, as `head` does; leaving quietly needs a sink for the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _report(error: XMAdapterError) -> int:
    text = " ".join(str(error).split())
    printable = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    print(f"error[{error.code}]: {printable}", file=sys.stderr)
    return error.exit_status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see --help")


def _parse(main: Callable[..., None], can_be_tried: bool) -> argparse.Namespace:
    module = sys.modules[main.__module__]
    parser = _Parser(
        prog=f"python -m {getattr(module.__spec__, 'name', main.__module__)}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, help="YAML file")
    if can_be_tried:
        parser.add_argument(
            "--dry-run", action="store_true", help="only say what would be run, and how long it would take"
        )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("override", nargs="*", metavar="a.b=value", help="replace a value of the file")
    return parser.parse_args()
