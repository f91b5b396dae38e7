"""Sweep adapters over shot counts, on features that pipelines.encode wrote.

python -m pipelines.sweep --config pipelines/configs/demo/sweep.yaml [--dry-run] [a.b=value ...]

ray job submit --working-dir . -- python -m pipelines.sweep --config FILE cluster.address=auto
"""

from xmadapter.config import SweepConfig
from xmadapter.distributed.sweep import run_sweep
from xmadapter.entry import entry_point
from xmadapter.features import open_features
from xmadapter.jobs import forecast_sweeps
from xmadapter.results import create_sweep_folder


@entry_point(SweepConfig, dry_run=lambda config: print(forecast_sweeps([config]), end=""))
def main(config: SweepConfig) -> None:
    """Run the trials that are missing; choose by validation."""
    store = open_features(config.features)
    summary = run_sweep(store, create_sweep_folder(config))
    print(f"{summary.finished} trials run, {summary.kept} kept from earlier runs; ledger and config in {config.output}")
    for reason, count in summary.failures:
        print(f"{count} failed: {reason}")


if __name__ == "__main__":
    main()
