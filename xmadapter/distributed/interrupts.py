"""Signals to a job: the first lets work in hand finish, the second ends it at once."""

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

__all__ = ["DRAIN_S", "first_signal", "until_interrupted"]

DRAIN_S = 10.0
"""How long shards in hand may go on after the first signal."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Row = TypeVar("_Row")


@contextmanager
def first_signal(act: Callable[[], None]) -> Iterator[None]:
    """Act at the first SIGINT or SIGTERM; any further one raises KeyboardInterrupt, on the way out of the block, too.

    Signals reach the main thread alone; in any other, nothing is changed.

    Args:
        act: May itself raise KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signalled = ended = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal signalled
        if signalled:
            raise KeyboardInterrupt
        signalled = True
        act()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
        ended = True
    finally:
        # On the way out of an interrupted job Ray's own handler would answer a further signal with a traceback.
        if ended or not signalled:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def until_interrupted(rows: Iterable[_Row], *, in_hand: int) -> Iterator[_Row]:
    """Pass results on; after SIGINT or SIGTERM only `in_hand` more, or those of `DRAIN_S` seconds.

    Args:
        rows: Results.
        in_hand: How many are worked on at once, 1 or more.

    Raises:
        KeyboardInterrupt: There was a signal, and what was in hand has come, or its time is over, or there was another.
    """
    left = -1
    timer = threading.Timer(DRAIN_S, signal.pthread_kill, (threading.main_thread().ident or 0, signal.SIGINT))
    timer.daemon = True

    def begin() -> None:
        nonlocal left
        left = in_hand
        timer.start()
        logging.getLogger(__name__).warning(
            "interrupted: shards in hand get %.0f s to finish; interrupt again to stop at once", DRAIN_S
        )

    with first_signal(begin):
        try:
            for row in rows:
                yield row
                left -= left > 0
                if left == 0:
                    raise KeyboardInterrupt
        finally:
            timer.cancel()
