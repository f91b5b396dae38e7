"""Views: what MLflow's pages of an experiment show first. Its default table has no metric, and its default charts no hyperparameter.

MLflow keeps a shared view as an experiment tag and opens it by its key in the address. The content is what its pages save (checked
with 3.17); a version that reads it otherwise shows its defaults.
"""

import json
from collections.abc import Sequence

__all__ = [
    "METHODS_VIEW",
    "describe_experiment",
    "methods_view",
    "trials_address",
    "trials_key",
    "trials_view",
    "view_tag",
]

METHODS_VIEW = "methods"
_SECTION = "search"


def view_tag(key: str) -> str:
    """Name of the experiment tag of a view."""
    return f"mlflow.sharedViewState.{key}"


def methods_view(measure: str) -> str:
    """Show parents, the best first, with accuracy or recall, interval and cost at the largest shot count.

    Args:
        measure: `accuracy` or `recall`; the first part of a metric's name.
    """
    return json.dumps(
        {
            "searchFilter": "tags.level = 'method'",
            "orderByKey": f"metrics.`{measure}/test`",
            "orderByAsc": False,
            "selectedColumns": [
                *(
                    f"metrics.`{name}`"
                    for name in (
                        f"{measure}/test",
                        "interval/test_low",
                        "interval/test_high",
                        "accuracy/validation" if measure == "accuracy" else "recall/text_to_image_1",
                        "cost/trained_parameters",
                        "cost/stored_kb",
                    )
                ),
                "params.`protocol`",
                "params.`shots`",
                "tags.`encoder`",
            ],
        }
    )


def trials_view(parent_run: str, searched: Sequence[str], measure: str) -> str:
    """Show the trials of a parent, the best first, and how their hyperparameters lead to accuracy.

    Args:
        parent_run: Id of the parent run.
        searched: Names of the searched parameters.
        measure: As for `methods_view`.
    """
    score = f"{measure}/selection"
    params = ["shots", *searched]
    parallel = {
        "type": "PARALLEL",
        "uuid": "parallel",
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "showAllRuns": True,
        "selectedParams": params,
        "selectedMetrics": [score],
    }
    return json.dumps(
        {
            "searchFilter": f"tags.mlflow.parentRunId = '{parent_run}'",
            "orderByKey": f"metrics.`{score}`",
            "orderByAsc": False,
            "selectedColumns": [f"metrics.`{score}`", *(f"params.`{name}`" for name in params)],
            "isAccordionReordered": True,
            "compareRunSections": [
                {"uuid": _SECTION, "name": "search", "display": True, "isReordered": True, "columns": 1}
            ],
            "compareRunCharts": [parallel],
        }
    )


def trials_key(parent: str) -> str:
    """Key of the view of a parent's trials."""
    return f"trials-{parent}"


def trials_address(experiment_id: str, parent: str) -> str:
    """Where that view opens, as an address within MLflow's pages."""
    key = trials_key(parent)
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={key}&compareRunsMode=CHART&workflowType=machine_learning"


def describe_experiment(experiment_id: str) -> str:
    """Say what the runs are, in the list of experiments and on the page of one."""
    address = f"#/experiments/{experiment_id}/runs?viewStateShareKey={METHODS_VIEW}&workflowType=machine_learning"
    return f"Adapters on one data set: a parent run is a method, a child run a trial. [Methods]({address})"
