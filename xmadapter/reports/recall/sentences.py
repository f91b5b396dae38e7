"""What the report of a retrieval sweep says in words: what was run, what came out, and how to read the intervals."""

from collections.abc import Sequence

from xmadapter.config import ZeroShotConfig
from xmadapter.reports.facts import Fact, image_counts, provenance
from xmadapter.reports.grid import Grid
from xmadapter.reports.recall.report import RecallReport
from xmadapter.reports.recall.rows import as_share
from xmadapter.reports.wording import bounds, count_of, half_width, listed, percent, points, visible
from xmadapter.retrieval import RetrievalFinal

__all__ = ["captions_sentence", "headline", "interval_notes", "origins", "summary"]


def headline(grid: Grid[RetrievalFinal]) -> str:
    """Name the method that validation prefers at the largest number of training images, beside zero-shot, on the test split."""
    best = grid.best
    first = as_share(best.recall("text_to_image", 1))
    spread = f" {half_width(first)} % (95 % interval over seeds)" if first.high > first.low else " %"
    found = f"on the test split its text to image recall@1 is {percent(first.estimate)}{spread}"
    start = f"With {count_of(best.choice.shots, 'training image')}, {visible(best.choice.method)} is best by validation; {found}"
    if isinstance(best.choice.adapter, ZeroShotConfig):
        return f"{start}: nothing that was trained is preferred to it."
    return f"{start}{_beside_zero_shot(grid)}."


def _beside_zero_shot(grid: Grid[RetrievalFinal]) -> str:
    names, difference = grid.named(ZeroShotConfig), grid.best.difference
    if not names or difference is None:
        return "; zero-shot was not run"
    zero_shot = as_share(grid.of(names[0])[-1].recall("text_to_image", 1))
    gained = as_share(difference)
    verdict = "" if gained.low > 0 else (", so it is worse" if gained.high < 0 else ", which does not tell them apart")
    return (
        f", zero-shot's {percent(zero_shot.estimate)} %: {points(gained.estimate)} points "
        f"({bounds(gained)} by bootstrap over test images){verdict}"
    )


def summary(report: RecallReport) -> str:
    """Say in one paragraph what was run."""
    grid, images = report.grid, image_counts(report.manifest)
    first = grid.finals[0]
    return (
        f"{count_of(len(grid.methods), 'method')} on {visible(report.title)}, trained on "
        f"{_joined(grid.shots)} of {images['train']:,} training images with their captions. "
        f"Hyperparameters are chosen by mean recall on the validation split ({count_of(images['validation'], 'image')}); "
        f"no test caption takes part in any choice. The test split has {count_of(first.images, 'image')} with "
        f"{count_of(first.texts, 'caption')}. Every number is a mean over {count_of(len(grid.seeds), 'seed')} "
        f"({listed(grid.seeds)}); a seed decides which training images are drawn, their order and the start of training. "
        f"{count_of(len(report.trials), 'trial')} finished, "
        f"{_stopped(report.stopped)}{report.failed:,} failed."
    )


def _joined(counts: Sequence[int]) -> str:
    *before, last = (f"{count:,}" for count in counts)
    return f"{listed(before)} and {last}" if before else last


def _stopped(trials: int) -> str:
    return f"{trials:,} {'was' if trials == 1 else 'were'} stopped early, " if trials else ""


def captions_sentence(grid: Grid[RetrievalFinal]) -> str:
    """Say what a rank is among, and how several captions of an image are counted."""
    final = grid.finals[0]
    start = "Text to image: a caption looks for its image among all test images. Image to text: "
    if final.texts == final.images:
        return f"{start}an image looks for its caption, of which it has one, among all captions. Ties count against the method."
    among = {
        "caption": "the captions of all other images, each by itself",
        "group": "the other images, each by the best of its captions",
    }
    convention = final.test[0].convention
    return (
        f"{start}images have {final.texts / final.images:.1f} captions on average, and the best of an image's own is ranked among "
        f"{among[convention]} (convention \N{LEFT DOUBLE QUOTATION MARK}{convention}\N{RIGHT DOUBLE QUOTATION MARK}). "
        "Ties count against the method."
    )


def interval_notes(grid: Grid[RetrievalFinal]) -> list[str]:
    """Define every interval of the report, each in a sentence or two."""
    final = grid.best
    first = as_share(final.test[0].text_to_image.recall[1])
    together = "captions of one image are drawn together" if final.texts > final.images else "by Wilson's formula"
    return [
        "After ±: half the 95 % interval of the mean over seeds, by Student's t. It says how much the draw of training images and "
        "the course of training matter, on this test split. There is none for one seed, nor where every seed gives the same.",
        "Minus zero-shot: the 95 % bootstrap interval of the difference in text to image recall@1 over test images, with all "
        "captions of an image and all seeds together. It says how much the choice of test images matters.",
        "Between trained methods: the 95 % interval, by Student's t, of the difference in mean recall per seed, on the same training "
        "and test images. It is not corrected for making several comparisons.",
        f"results.csv also has the interval of the first seed's text to image recall@1 for another draw of test images "
        f"({together}): for {visible(final.choice.method)} {percent(first.low)} to {percent(first.high)} %, seed {grid.seeds[0]}.",
    ]


def origins(report: RecallReport) -> list[Fact]:
    """List what identifies the encoder, the data and the config, and what was measured on."""
    final = report.grid.finals[0]
    return [
        *provenance(report.manifest, config_fingerprint=report.config_fingerprint),
        Fact("seeds", listed(report.grid.seeds)),
        Fact("test images", f"{final.images:,}"),
        Fact("test captions", f"{final.texts:,}"),
    ]
