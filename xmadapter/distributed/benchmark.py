"""run_benchmark: encode, check zero-shot, sweep and test every cell of a benchmark."""

from collections.abc import Iterator

from xmadapter.config import BenchmarkCell, BenchmarkConfig, EvaluateConfig, SweepConfig
from xmadapter.distributed.encode import run_encode
from xmadapter.distributed.sweep import run_sweep
from xmadapter.errors import NotReproduced
from xmadapter.features import open_features
from xmadapter.final import FinalResult
from xmadapter.jobs import evaluate_sweep
from xmadapter.reports import BenchmarkEntry
from xmadapter.results import create_sweep_folder

__all__ = ["run_benchmark"]


def run_benchmark(config: BenchmarkConfig) -> list[BenchmarkEntry]:
    """Run what is missing of a benchmark; what is encoded, swept and tested already is taken as it is.

    All sets are encoded and their zero-shot accuracy is compared with the published one before the first sweep starts.

    Raises:
        NotReproduced: Zero-shot accuracy differs by more than the tolerance; names every such cell.
        XMAdapterError: As the steps raise it; what is finished is kept.
    """
    cells = list(config.cells())
    far = []
    for cell in cells:
        run_encode(cell.encode)
        if cell.published is not None:
            ours = 100 * _tested(cell.zero_shot)[0].interval.estimate
            if abs(ours - cell.published) > cell.tolerance:
                far.append(f"{cell.set} with {cell.encoder}: {ours:.2f} instead of {cell.published:.2f}")
    if far:
        raise NotReproduced(
            f"zero-shot accuracy in % is not the published one: {'; '.join(far)}; all features are kept and nothing was swept; "
            "correct data, prompts or weights, or raise `tolerance`"
        )
    return [entry for cell in cells for entry in _entries(cell)]


def _entries(cell: BenchmarkCell) -> Iterator[BenchmarkEntry]:
    manifest = open_features(cell.sweep.features).manifest
    for final in _tested(cell.sweep):
        yield BenchmarkEntry(cell.set, cell.encoder, manifest.split_hash, final)


def _tested(sweep: SweepConfig) -> list[FinalResult]:
    """Sweep, and look at the test split unless it was looked at after the last trial."""
    folder = create_sweep_folder(sweep)
    finished = run_sweep(open_features(sweep.features), folder).finished
    wanted = {(method.title, shots) for method in sweep.methods for shots in sweep.shots}
    finals = folder.finals()
    if finished or {(final.choice.method, final.choice.shots) for final in finals} != wanted:
        return evaluate_sweep(EvaluateConfig(sweep=sweep.output))
    return finals
