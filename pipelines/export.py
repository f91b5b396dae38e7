"""Export one choice of a sweep as a bundle; by default the best by validation at the largest shot count.

python -m pipelines.export --config pipelines/configs/demo/export.yaml [a.b=value ...]
"""

from xmadapter.config import ExportConfig
from xmadapter.entry import entry_point
from xmadapter.jobs import export_choice


@entry_point(ExportConfig)
def main(config: ExportConfig) -> None:
    """Write the bundle and say how to use it."""
    bundle = export_choice(config)
    print(f"bundle: {bundle}")
    print(f"use it: xmadapter predict {bundle} IMAGE...")


if __name__ == "__main__":
    main()
