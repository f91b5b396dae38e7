"""Write the report of an evaluated sweep: one HTML page, Markdown, CSV, pictures.

python -m pipelines.report --config pipelines/configs/demo/report.yaml [a.b=value ...]
"""

from xmadapter.config import ReportConfig
from xmadapter.entry import entry_point
from xmadapter.jobs import report_sweep


@entry_point(ReportConfig)
def main(config: ReportConfig) -> None:
    """Write the files; say where they are and how to compare the runs."""
    written = report_sweep(config)
    print(f"report:  {written.page}\nmlflow:  {written.mlflow}\ncompare: {written.comparison}")


if __name__ == "__main__":
    main()
