"""Tables of a benchmark: several data sets and encoders, one way of measuring."""

import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from xmadapter.evaluation import Interval, paired_interval, rank_methods, seed_interval
from xmadapter.final import FinalResult
from xmadapter.reports.grid import Grid, make_grid
from xmadapter.reports.tables import comparison

__all__ = ["BenchmarkEntry", "Margin", "average_over_sets", "benchmark_csv", "margins", "mean_ranks", "over_everything"]


class BenchmarkEntry(NamedTuple):
    """A final result, and where it was measured."""

    set: str
    encoder: str
    split_hash: str
    final: FinalResult


class Margin(NamedTuple):
    """How far the reference method is from the best of all others, at one shot count on one set.

    The best is picked by its test accuracy, which flatters the others: a margin is never too large for that reason.
    """

    set: str
    shots: int
    best_other: str
    difference: Interval


def average_over_sets(entries: Iterable[BenchmarkEntry]) -> Grid:
    """Average each method at each shot count over data sets, seed by seed, so that seeds stay paired.

    Args:
        entries: Of one encoder; each method and shot count on every set.

    Returns:
        A grid whose accuracies are means over sets, its images and seconds their sums; without Wilson intervals and classes.
    """
    cells: dict[tuple[str, int], list[FinalResult]] = {}
    for entry in entries:
        cells.setdefault((entry.final.choice.method, entry.final.choice.shots), []).append(entry.final)
    return make_grid([_average(finals) for finals in cells.values()])


def margins(entries: Sequence[BenchmarkEntry], reference: str) -> list[Margin]:
    """Compare a method with the best other one, set by set and by ascending shots, over the same episodes."""
    found = []
    for name in dict.fromkeys(entry.set for entry in entries):
        grid = make_grid([entry.final for entry in entries if entry.set == name])
        for ours in grid.of(reference):
            shots = ours.choice.shots
            others = [
                final for final in grid.finals if final.choice.shots == shots and final.choice.method != reference
            ]
            if others:
                best = max(others, key=lambda final: final.interval.estimate)
                found.append(Margin(name, shots, best.choice.method, paired_interval(ours.test, best.test)))
    return found


def over_everything(grid: Grid, reference: str) -> dict[str, Interval]:
    """Difference of the reference to every other method, a mean over sets and shots, paired by seed.

    Args:
        grid: Averages over sets.
        reference: Title of the method that the others are taken from.
    """
    means = {method: np.mean([final.test for final in grid.of(method)], axis=0) for method in grid.methods}
    return {
        method: paired_interval(means[reference].tolist(), mean.tolist())
        for method, mean in means.items()
        if method != reference
    }


def mean_ranks(entries: Sequence[BenchmarkEntry], shots: int) -> tuple[dict[str, float], float] | None:
    """Rank methods on every set at one shot count: mean ranks, the best first, and the critical difference at 95 %.

    None where there are too few sets or methods.
    """
    found = [entry for entry in entries if entry.final.choice.shots == shots]
    sets = list(dict.fromkeys(entry.set for entry in found))
    methods = list(dict.fromkeys(entry.final.choice.method for entry in found))
    if len(sets) < 2 or len(methods) < 3:
        return None
    accuracy = np.empty((len(sets), len(methods)))
    for entry in found:
        place = sets.index(entry.set), methods.index(entry.final.choice.method)
        accuracy[place] = entry.final.interval.estimate
    ranking = rank_methods(accuracy)
    ranks = dict(zip(methods, map(float, ranking.ranks), strict=True))
    return dict(sorted(ranks.items(), key=lambda item: item[1])), ranking.critical_difference


def benchmark_csv(entries: Sequence[BenchmarkEntry]) -> bytes:
    """Tabulate every result, with its set, encoder and split hash before the columns of `comparison`."""
    tables = []
    for name, encoder in dict.fromkeys((entry.set, entry.encoder) for entry in entries):
        own = [entry for entry in entries if (entry.set, entry.encoder) == (name, encoder)]
        table = comparison([entry.final for entry in own])
        where = {"set": name, "encoder": encoder, "split_hash": own[0].split_hash}
        for place, (column, value) in enumerate(where.items()):
            table = table.add_column(place, column, pa.array([value] * table.num_rows, pa.string()))
        tables.append(table)
    file = io.BytesIO()
    pyarrow.csv.write_csv(pa.concat_tables(tables), file)
    return file.getvalue()


def _average(finals: Sequence[FinalResult]) -> FinalResult:
    choices = [final.choice for final in finals]
    test = tuple(np.mean([final.test for final in finals], axis=0).tolist())
    validated = all(choice.validation for choice in choices)
    choice = choices[0].model_copy(
        update={
            "validation": tuple(np.mean([one.validation for one in choices], axis=0).tolist()) if validated else (),
            "trained_parameters": round(np.mean([one.trained_parameters for one in choices])),
            "stored_bytes": round(np.mean([one.stored_bytes for one in choices])),
        }
    )
    return FinalResult(
        choice=choice,
        test=test,
        interval=seed_interval(test),
        wilson=(),
        class_accuracy=(),
        test_rows=sum(final.test_rows for final in finals),
        seconds=sum(final.seconds for final in finals),
    )
