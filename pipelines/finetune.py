"""Sweep adapters inside the encoder over numbers of training images, on a feature store with captions.

python -m pipelines.finetune --config pipelines/configs/finetune/stamps.yaml [--dry-run] [a.b=value ...]

ray job submit --working-dir . -- python -m pipelines.finetune --config FILE cluster.address=auto
"""

from xmadapter.config import FinetuneConfig
from xmadapter.distributed.sweep import run_sweep
from xmadapter.entry import entry_point
from xmadapter.features import open_features
from xmadapter.jobs import forecast_sweeps
from xmadapter.results import create_sweep_folder
from xmadapter.tasks import with_images_counted


@entry_point(FinetuneConfig, dry_run=lambda config: print(forecast_sweeps([config]), end=""))
def main(config: FinetuneConfig) -> None:
    """Run the trials that are missing; choose by recall on the validation split."""
    store = open_features(config.features)
    summary = run_sweep(store, create_sweep_folder(with_images_counted(config, store)))
    print(f"{summary.finished} trials run, {summary.kept} kept from earlier runs; ledger and config in {config.output}")
    for reason, count in summary.failures:
        print(f"{count} failed: {reason}")


if __name__ == "__main__":
    main()
