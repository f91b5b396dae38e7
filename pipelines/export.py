"""Export one choice of a sweep as a bundle; by default the best by validation at the largest shot count.

python -m pipelines.export --config pipelines/configs/demo/export.yaml [a.b=value ...]
"""

from shlex import quote

from xmadapter.config import ExportConfig
from xmadapter.entry import entry_point
from xmadapter.jobs import export_choice
from xmadapter.retrieval import is_retrieval_bundle


@entry_point(ExportConfig)
def main(config: ExportConfig) -> None:
    """Write the bundle and say how to use it."""
    bundle = export_choice(config)
    print(f"bundle: {bundle}")
    verb = "search" if is_retrieval_bundle(str(bundle)) else "predict"
    print(f"use it: xmadapter {verb} {quote(str(bundle))} {'QUERY' if verb == 'search' else 'IMAGE...'}")


if __name__ == "__main__":
    main()
