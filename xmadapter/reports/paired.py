"""Paired comparisons: two methods on the same episodes and the same test images, and what may be said of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xmadapter.config import LinearProbeConfig, TipConfig, XMAdapterConfig
from xmadapter.evaluation import Interval, paired_interval
from xmadapter.reports.grid import Grid
from xmadapter.reports.wording import bounds, count_of, percent, points, shots_title, visible

__all__ = ["Paired", "by_pair", "caution", "compare", "losses", "paired_bounds", "paired_cell"]


@dataclass(frozen=True)
class Paired:
    """One method minus another at one shot count.

    Args:
        method: Title of the method.
        reference: Title of the method it is compared with.
        shots: Shot count of both.
        seeds: Number of episodes they share.
        difference: Test accuracy, method minus reference, mean over episodes; in [-1, 1].
    """

    method: str
    reference: str
    shots: int
    seeds: int
    difference: Interval

    @property
    def verdict(self) -> Literal["above", "below", "within", "no interval"]:
        """Where the interval lies; `within` means that it holds 0, which is not the same as equality."""
        interval = self.difference
        if interval.low == interval.high:
            return "no interval"
        if interval.low > 0:
            return "above"
        return "below" if interval.high < 0 else "within"


def compare(grid: Grid) -> tuple[Paired, ...]:
    """Compare each method with the linear probe, and XMAdapter with Tip-Adapter, where the sweep has them."""
    probes, tips = grid.named(LinearProbeConfig)[:1], grid.named(TipConfig)[:1]
    pairs = [(method, probe) for probe in probes for method in grid.methods if method != probe]
    pairs += [(method, tip) for tip in tips for method in grid.named(XMAdapterConfig)]
    return tuple(
        Paired(method, reference, shots, len(grid.seeds), paired_interval(ours.test, theirs.test))
        for method, reference in pairs
        for shots in grid.shots
        if (ours := grid.at(method, shots)) and (theirs := grid.at(reference, shots))
    )


def by_pair(pairs: Sequence[Paired]) -> dict[tuple[str, str], dict[int, Paired]]:
    """Group comparisons as a table: (method, reference) is a row, the shot count a column."""
    rows: dict[tuple[str, str], dict[int, Paired]] = {}
    for pair in pairs:
        rows.setdefault((pair.method, pair.reference), {})[pair.shots] = pair
    return rows


def paired_cell(pair: Paired) -> str:
    """Write a difference in percent points: `+2.0 (+0.5 to +3.5)`."""
    return f"{points(pair.difference.estimate)} ({paired_bounds(pair)})"


def paired_bounds(pair: Paired) -> str:
    """Write the bounds of a difference, or that it has none."""
    return "no interval" if pair.verdict == "no interval" else bounds(pair.difference)


def losses(grid: Grid, pairs: Sequence[Paired]) -> list[str]:
    """Say where methods are behind the linear probe: a count first, then one sentence per method that is."""
    probes = grid.named(LinearProbeConfig)
    if not probes:
        return [
            "There is no linear probe in this sweep, so nothing here says whether a method beats one. Add `linear-probe`."
        ]
    pairs = [pair for pair in pairs if pair.reference == probes[0]]
    if not pairs:
        return ["The linear probe shares no shot count with another method, so there is nothing to compare."]
    behind = [pair for pair in pairs if pair.difference.estimate < 0]
    sentences = [_count(pairs, behind, visible(probes[0])), *caution(pairs)]
    for method in dict.fromkeys(pair.method for pair in behind):
        parts = "; ".join(_loss(pair) for pair in behind if pair.method == method)
        sentences.append(f"{visible(method)}: {parts}.")
    return sentences


def _count(pairs: Sequence[Paired], behind: Sequence[Paired], probe: str) -> str:
    clear = sum(pair.verdict == "below" for pair in behind)
    ahead = sum(pair.verdict == "above" for pair in pairs)
    start = f"In {count_of(len(pairs), 'comparison')} with {probe}, a method is behind in {len(behind) or 'none'}"
    rest = f", in {clear or 'none'} of them by an interval that excludes 0" if behind else ""
    return f"{start}{rest}. It is ahead by an interval that excludes 0 in {ahead or 'none'}."


def caution(pairs: Sequence[Paired]) -> list[str]:
    """Say what so few seeds cannot tell."""
    seeds = pairs[0].seeds
    if seeds == 1:
        return ["One seed gives no interval: none of these differences can be told from the luck of one draw."]
    return [
        f"With {seeds} seeds the intervals are wide, and \N{LEFT DOUBLE QUOTATION MARK}within the interval\N{RIGHT DOUBLE QUOTATION MARK} "
        f"does not mean equal; they are not corrected for making {count_of(len(pairs), 'comparison')}."
    ]


def _loss(pair: Paired) -> str:
    interval = pair.difference
    size = percent(-interval.estimate)
    start = f"{'under 0.1' if size == '0.0' else size} points lower at {shots_title(pair.shots)}"
    match pair.verdict:
        case "below":
            return f"{start}, by an interval that excludes 0 ({bounds(interval)})"
        case "no interval":
            reason = "one seed" if pair.seeds == 1 else "the same in every seed"
            return f"{start} ({reason}, so no interval)"
        case _:
            return f"{start}, within the interval ({bounds(interval)})"
