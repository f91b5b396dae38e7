"""Look at the test split, once: choose by validation, refit, score.

python -m pipelines.evaluate --config pipelines/configs/demo/evaluate.yaml [a.b=value ...]

ray job submit --working-dir . -- python -m pipelines.evaluate sweep=FOLDER cluster.address=auto
"""

from xmadapter.config import EvaluateConfig
from xmadapter.distributed.final import score_on_cluster
from xmadapter.entry import entry_point
from xmadapter.jobs import evaluate_sweep


@entry_point(EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    """Score the chosen trials and print the table."""
    print(evaluate_sweep(config, score=score_on_cluster))


if __name__ == "__main__":
    main()
