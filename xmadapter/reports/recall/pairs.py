"""Which methods are not better than zero-shot or linear heads, and which reach others with fewer trained parameters."""

from collections.abc import Sequence

from xmadapter.config import CrossModalConfig, HeadsConfig, ZeroShotConfig
from xmadapter.evaluation import paired_interval
from xmadapter.reports.grid import Grid
from xmadapter.reports.paired import Paired, caution
from xmadapter.reports.recall.rows import as_share
from xmadapter.reports.wording import bounds, count_of, percent, points, visible
from xmadapter.retrieval import RetrievalFinal, mean_recall

__all__ = ["against_heads", "against_zero_shot", "economy"]


def against_zero_shot(grid: Grid[RetrievalFinal]) -> list[str]:
    """Say which methods are not above zero-shot in text to image recall@1: a count first, then a sentence for each."""
    names = grid.named(ZeroShotConfig)
    if not names:
        return ["Zero-shot is not in this sweep, so nothing here says whether training helps. Add `zero-shot`."]
    pairs = [
        Paired(final.choice.method, names[0], final.choice.shots, len(grid.seeds), as_share(final.difference))
        for final in grid.finals
        if final.difference
    ]
    if not pairs:
        return ["Nothing was run beside zero-shot, so there is nothing to compare."]
    return [_count(pairs, "text to image recall@1"), *_lags(pairs)]


def against_heads(grid: Grid[RetrievalFinal]) -> list[str]:
    """Say which adapters inside the encoder are not above linear heads on its features, in mean recall, as for zero-shot."""
    heads = grid.named(HeadsConfig)
    if not heads:
        return [
            "Linear heads are not in this sweep, so nothing here says whether it pays to adapt inside the encoder. Add `heads`."
        ]
    others = [method for method in grid.methods if method not in (*heads, *grid.named(ZeroShotConfig))]
    pairs = [
        _paired(ours, theirs)
        for method in others
        for ours in grid.of(method)
        if (theirs := grid.at(heads[0], ours.choice.shots))
    ]
    if not pairs:
        return ["No adapter inside the encoder was run beside linear heads, so there is nothing to compare."]
    return [_count(pairs, "mean recall"), *caution(pairs), *_lags(pairs)]


def economy(grid: Grid[RetrievalFinal]) -> list[str]:
    """Say which methods reach the best one, or an adapter that shares weights its plain kind, with fewer trained parameters.

    At the largest number of training images. The best is the one that validation prefers.
    """
    finals = [final for final in grid.finals if final.choice.shots == grid.shots[-1]]
    sharing = [final for final in finals if _shared(final) > 0]
    plain = [final for final in finals if _shared(final) == 0]
    trained = [final for final in finals if final.choice.trained_parameters]
    pairs = [(ours, grid.best) for ours in trained] + [(ours, theirs) for ours in sharing for theirs in plain]
    cheaper = {
        (ours.choice.method, theirs.choice.method): _reach(ours, theirs)
        for ours, theirs in pairs
        if ours.choice.trained_parameters < theirs.choice.trained_parameters
    }
    best = f"{visible(grid.best.choice.method)}, the best by validation"
    return [*cheaper.values()] or [f"No method trains fewer parameters than {best}."]


def _shared(final: RetrievalFinal) -> int:
    """Channels shared by image and text; -1 for adapters that cannot share."""
    adapter = final.choice.adapter
    return adapter.shared if isinstance(adapter, CrossModalConfig) else -1


def _paired(ours: RetrievalFinal, theirs: RetrievalFinal) -> Paired:
    """Compare mean recalls seed by seed: both trained on the same images."""
    difference = paired_interval(*([mean_recall(report) for report in final.test] for final in (ours, theirs)))
    return Paired(ours.choice.method, theirs.choice.method, ours.choice.shots, len(ours.choice.seeds), difference)


def _count(pairs: Sequence[Paired], measure: str) -> str:
    found = [_verdict(pair) for pair in pairs]
    counts = "; ".join(f"{found.count(verdict)} {verdict}" for verdict in sorted(set(found)))
    return f"{count_of(len(pairs), 'comparison')} with {visible(pairs[0].reference)} in {measure}: {counts}."


def _verdict(pair: Paired) -> str:
    match pair.verdict:
        case "above":
            return "better by an interval that excludes 0"
        case "below":
            return "worse by an interval that excludes 0"
        case "within":
            return "within the interval"
        case "no interval":
            return f"{'better' if pair.difference.estimate > 0 else 'not better'} without an interval"


def _lags(pairs: Sequence[Paired]) -> list[str]:
    """Write a sentence for each method that is not better, over its numbers of training images."""
    lagging = [pair for pair in pairs if not _verdict(pair).startswith("better")]
    sentences = []
    for method in dict.fromkeys(pair.method for pair in lagging):
        parts = [_lag(pair) for pair in lagging if pair.method == method]
        sentences.append(f"{visible(method)} against {visible(pairs[0].reference)}: {'; '.join(parts)}.")
    return sentences


def _lag(pair: Paired) -> str:
    word = {"within": "not told apart", "below": "worse"}.get(pair.verdict, "not better")
    return f"{word} with {count_of(pair.shots, 'training image')}, {_amount(pair)}"


def _amount(pair: Paired) -> str:
    inside = "no interval" if pair.verdict == "no interval" else f"interval {bounds(pair.difference)}"
    return f"{points(pair.difference.estimate)} points ({inside})"


def _reach(ours: RetrievalFinal, theirs: RetrievalFinal) -> str:
    pair = _paired(ours, theirs)
    share = ours.choice.trained_parameters / theirs.choice.trained_parameters
    verdicts = {
        "above": "it is better with fewer",
        "within": f"it reaches it, as far as {count_of(pair.seeds, 'seed')} can tell",
        "below": "it does not reach it",
        "no interval": "it is not lower" if pair.difference.estimate >= 0 else "it is lower",
    }
    return (
        f"With {count_of(pair.shots, 'training image')}, {visible(pair.method)} has {ours.choice.trained_parameters:,} trained "
        f"parameters, {percent(share)} % of those of {visible(pair.reference)}; in mean recall {verdicts[pair.verdict]}: "
        f"{_amount(pair)}."
    )
