"""Signals to a job: what is in hand comes, then it ends; a second signal ends it at once."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from xmadapter.distributed import interrupts
from xmadapter.distributed.interrupts import until_interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def numbers(signalled_at: dict[int, list[int]]) -> Iterator[int]:
    """Count, and send this process signals before some numbers."""
    for number in range(100):
        for sent in signalled_at.get(number, []):
            os.kill(os.getpid(), sent)
        yield number


def passed(rows: Iterator[int], *, in_hand: int) -> list[int]:
    """What came before the interrupt, which must come."""
    found: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(until_interrupted(rows, in_hand=in_hand))
    return found


def test_without_a_signal_everything_passes():
    assert list(until_interrupted(numbers({}), in_hand=1)) == list(range(100))


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("in_hand", [1, 3])
def test_after_a_signal_comes_what_is_in_hand(number: int, in_hand: int, caplog: pytest.LogCaptureFixture):
    assert passed(numbers({5: [number]}), in_hand=in_hand) == list(range(5 + in_hand))
    assert "shards in hand get 10 s to finish; interrupt again to stop at once" in caplog.text


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_it_at_once(number: int):
    assert passed(numbers({5: [number], 6: [number]}), in_hand=50) == list(range(6))


def test_work_in_hand_that_does_not_come_is_waited_for_no_longer_than_agreed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interrupts, "DRAIN_S", 0.2)

    def stuck() -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        yield 0

    started = time.monotonic()
    assert passed(stuck(), in_hand=1) == []
    assert time.monotonic() - started < 30


def test_handlers_are_as_before_unless_the_job_was_interrupted():
    before = [signal.getsignal(number) for number in SIGNALS]
    list(until_interrupted(range(3), in_hand=1))
    list(until_interrupted(numbers({99: [signal.SIGINT]}), in_hand=2))  # all came before it had to end
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_on_the_way_out_a_further_signal_is_an_interrupt_too(number: int):
    def exits_with_a_traceback(number: int, _frame: object) -> None:
        raise SystemExit(number)

    signal.signal(number, exits_with_a_traceback)
    passed(numbers({5: [signal.SIGINT]}), in_hand=1)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_in_another_thread_results_pass_and_signals_are_left_alone():
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(until_interrupted(range(3), in_hand=1)))
    thread.start()
    thread.join()
    assert found == [0, 1, 2]
