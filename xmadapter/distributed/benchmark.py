"""run_benchmark: encode, check zero-shot, sweep and test every cell of a benchmark."""

from xmadapter.config import BenchmarkCell, BenchmarkConfig, EvaluateConfig, SweepConfig
from xmadapter.distributed.encode import run_encode
from xmadapter.distributed.final import score_on_cluster
from xmadapter.distributed.sweep import run_sweeps
from xmadapter.errors import NotReproduced
from xmadapter.features import open_features
from xmadapter.final import FinalResult
from xmadapter.jobs import evaluate_sweep
from xmadapter.reports import BenchmarkEntry
from xmadapter.results import SweepFolder, create_sweep_folder

__all__ = ["run_benchmark"]


def run_benchmark(config: BenchmarkConfig) -> list[BenchmarkEntry]:
    """Run what is missing of a benchmark; what is encoded, swept and tested already is taken as it is.

    All sets are encoded and their zero-shot accuracy is compared with the published one before the first sweep starts.

    Raises:
        NotReproduced: Zero-shot accuracy differs by more than the tolerance; names every such cell.
        XMAdapterError: As the steps raise it; what is finished is kept.
    """
    cells = list(config.cells())
    for cell in cells:
        run_encode(cell.encode)
    far = _unlike_published([cell for cell in cells if cell.published is not None])
    if far:
        raise NotReproduced(
            f"zero-shot accuracy in % is not the published one: {'; '.join(far)}; all features are kept and nothing was swept; "
            "correct data, prompts or weights, or raise `tolerance`"
        )
    return [
        BenchmarkEntry(cell.set, cell.encoder, open_features(cell.sweep.features).manifest.split_hash, final)
        for cell, finals in zip(cells, _tested([cell.sweep for cell in cells]), strict=True)
        for final in finals
    ]


def _unlike_published(cells: list[BenchmarkCell]) -> list[str]:
    """Name the cells whose zero-shot accuracy is not the published one, and both."""
    found = []
    for cell, finals in zip(cells, _tested([cell.zero_shot for cell in cells]), strict=True):
        ours, published = 100 * finals[0].interval.estimate, cell.published
        if published is not None and abs(ours - published) > cell.tolerance:
            found.append(f"{cell.set} with {cell.encoder}: {ours:.2f} instead of {published:.2f}")
    return found


def _tested(sweeps: list[SweepConfig]) -> list[list[FinalResult]]:
    """Sweep as one job, and look at each test split unless it was looked at after its last trial."""
    folders = [create_sweep_folder(sweep) for sweep in sweeps]
    summaries = run_sweeps(
        [(open_features(sweep.features), folder) for sweep, folder in zip(sweeps, folders, strict=True)]
    )
    return [_finals(folder, summary.finished) for folder, summary in zip(folders, summaries, strict=True)]


def _finals(folder: SweepFolder, finished: int) -> list[FinalResult]:
    wanted = {(method.title, shots) for method in folder.config.methods for shots in folder.config.shots}
    finals = folder.finals(FinalResult)
    if finished or {(final.choice.method, final.choice.shots) for final in finals} != wanted:
        evaluate_sweep(EvaluateConfig(sweep=folder.config.output), score=score_on_cluster)
        finals = folder.finals(FinalResult)
    return finals
