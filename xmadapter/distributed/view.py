"""SweepView: what a person sees of a sweep that runs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from tqdm import tqdm

from xmadapter.study import FinishedTrial, Study

__all__ = ["SweepView"]

_LOG_EVERY_S = 5.0


class SweepView:
    """Trials done, running and failed, the time left, and the best so far: a live table on a terminal, one line in a log.

    Args:
        total: Trials in all.
        rows: By uid of a study, the row it stands in: its method, or its sweep where several run together.
        console: Where to draw; empty means standard error.
    """

    def __init__(self, total: int, rows: Mapping[str, str], console: Console | None = None) -> None:
        self._rows = rows
        self._console = console or Console(stderr=True)
        self._best: dict[str, dict[int, float]] = {row: {} for row in rows.values()}
        self._running: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._bar: tqdm[Any] | None = None
        self._progress = Progress(
            TextColumn("sweeping"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._progress.add_task("sweeping", total=total, state="")
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> "SweepView":
        if self._console.is_terminal:
            self._live.start()
        else:
            total = self._progress.tasks[0].total
            self._bar = tqdm(total=total, unit="trial", desc="sweeping", smoothing=0.05, mininterval=_LOG_EVERY_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._bar is not None:
            self._bar.close()

    def kept(self, studies: Iterable[tuple[Study, Mapping[int, FinishedTrial]]]) -> None:
        """Count what earlier runs have finished."""
        done = 0
        for study, finished in studies:
            trials = [trial for number, trial in finished.items() if number < study.draws]
            done += len(trials)
            for trial in trials:
                self._note(study, trial)
        self._progress.update(self._task, completed=self._progress.tasks[0].completed + done)
        if self._bar is not None:
            self._bar.initial += done
            self._bar.update(done)
        self._say()

    def started(self, trial_id: str) -> None:
        """Count a trial that runs."""
        self._running.add(trial_id)
        self._say()

    def lost(self, trial_id: str) -> None:
        """Count a trial no longer that will be run again."""
        self._running.discard(trial_id)
        self._say()

    def ended(self, trial_id: str, study: Study, trial: FinishedTrial, failure: str | None) -> None:
        """Count a trial that ended."""
        self._running.discard(trial_id)
        self._counts["failed"] += failure is not None
        self._counts["stopped early"] += failure is None and trial.result is None
        self._note(study, trial)
        self._progress.advance(self._task)
        if self._bar is not None:
            self._bar.update()
        self._say()

    def _note(self, study: Study, trial: FinishedTrial) -> None:
        if trial.result is not None:
            best = self._best[self._rows[study.uid]]
            best[study.shots] = max(best.get(study.shots, 0.0), trial.result.score)

    def _say(self) -> None:
        counts = {"running": len(self._running), "failed": self._counts["failed"]}
        if stopped := self._counts["stopped early"]:
            counts["stopped early"] = stopped
        state = ", ".join(f"{count} {name}" for name, count in counts.items())
        self._progress.update(self._task, state=state)
        if self._bar is not None:
            best = max(((max(by.values()), row) for row, by in self._best.items() if by), default=(0.0, "none"))
            self._bar.set_postfix_str(f"{state}, best {best[0]:.3f} {best[1]}", refresh=False)

    def _render(self) -> Group:
        shots = sorted({shots for by_shots in self._best.values() for shots in by_shots})
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("best so far, by shots")
        for count in shots:
            table.add_column(str(count), justify="right")
        leaders = {count: max(by.get(count, 0.0) for by in self._best.values()) for count in shots}
        for row, by_shots in self._best.items():
            cells = [_cell(by_shots.get(count), leads=by_shots.get(count) == leaders[count]) for count in shots]
            table.add_row(escape(row), *cells)
        return Group(self._progress, table) if shots else Group(self._progress)


def _cell(value: float | None, *, leads: bool) -> str:
    text = "" if value is None else f"{100 * value:.1f}"
    return f"[bold]{text}[/bold]" if leads else text
