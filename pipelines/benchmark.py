"""Encode, sweep and test several data sets with several encoders in the same way, and compare the methods over all of them.

python -m pipelines.benchmark --config pipelines/configs/benchmark/real.yaml [--dry-run] [a.b=value ...]

ray job submit --working-dir . -- python -m pipelines.benchmark --config FILE cluster.address=auto
"""

from xmadapter.config import BenchmarkConfig
from xmadapter.distributed.benchmark import run_benchmark
from xmadapter.entry import entry_point
from xmadapter.jobs import forecast_sweeps
from xmadapter.reports import write_benchmark


def dry_run(config: BenchmarkConfig) -> None:
    """Say what the sweeps of all cells would run; published accuracies are not checked."""
    print(forecast_sweeps([cell.sweep for cell in config.cells()]), end="")


@entry_point(BenchmarkConfig, dry_run=dry_run)
def main(config: BenchmarkConfig) -> None:
    """Run what is missing and write the tables."""
    entries = run_benchmark(config)
    page = write_benchmark(entries, reference=config.compared_with, output=config.output)
    print(f"{len(entries)} results of {len(config.sets)} data sets and {len(config.encoders)} encoders in {page}")


if __name__ == "__main__":
    main()
