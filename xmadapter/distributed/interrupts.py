"""Signals to a job that reads results as they come: the first lets work in hand finish, the second ends it at once."""

import logging
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

__all__ = ["DRAIN_S", "until_interrupted"]

DRAIN_S = 10.0
"""How long work in hand may go on after the first signal."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Row = TypeVar("_Row")


def until_interrupted(rows: Iterable[_Row], *, in_hand: int) -> Iterator[_Row]:
    """Pass results on; after SIGINT or SIGTERM only `in_hand` more, or those of `DRAIN_S` seconds.

    Signals reach the main thread alone; in any other, results are passed on and nothing else.

    Args:
        rows: Results.
        in_hand: How many are worked on at once, 1 or more.

    Raises:
        KeyboardInterrupt: There was a signal, and what was in hand has come, or its time is over, or there was another.
    """
    if threading.current_thread() is not threading.main_thread():
        yield from rows
        return
    main, left, ended = threading.main_thread().ident or 0, -1, False
    timer = threading.Timer(DRAIN_S, signal.pthread_kill, (main, signal.SIGINT))
    timer.daemon = True

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal left
        if left >= 0:
            raise KeyboardInterrupt
        left = in_hand
        timer.start()
        logging.getLogger(__name__).warning(
            "interrupted: shards in hand get %.0f s to finish; interrupt again to stop at once", DRAIN_S
        )

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        for row in rows:
            yield row
            left -= left > 0
            if left == 0:
                raise KeyboardInterrupt
        ended = True
    finally:
        timer.cancel()
        # On the way out of an interrupted job a further signal is an interrupt, too; Ray's own handler would exit with a traceback.
        if ended or left < 0:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
