"""Rules that the source itself keeps: who opens the test split, how long a pipeline is, that every config loads."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.line import REPOSITORY
from xmadapter.config import (
    BenchmarkConfig,
    EncodeConfig,
    EvaluateConfig,
    ExportConfig,
    FinetuneConfig,
    ReportConfig,
    SweepConfig,
    load,
)
from xmadapter.config.doctor import DoctorConfig

CONFIGS = {
    "encode": EncodeConfig,
    "sweep": SweepConfig,
    "evaluate": EvaluateConfig,
    "report": ReportConfig,
    "export": ExportConfig,
    "benchmark": BenchmarkConfig,
    "doctor": DoctorConfig,
    "finetune": FinetuneConfig,
}
FILES = sorted((REPOSITORY / "pipelines" / "configs").rglob("*.y*ml"))
PIPELINES = sorted((REPOSITORY / "pipelines").glob("*.py"))


def openers(function: ast.AST, name: str = "test") -> int:
    """Count the calls `something.test()` in a piece of source."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    return sum(isinstance(call.func, ast.Attribute) and call.func.attr == name for call in calls)


def test_only_the_final_evaluation_opens_the_test_split():
    sources = [path for root in ("xmadapter", "pipelines", "benchmarks") for path in (REPOSITORY / root).rglob("*.py")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sources}
    found = Counter({path.relative_to(REPOSITORY).as_posix(): openers(tree) for path, tree in trees.items()})
    assert len(sources) > 70
    assert +found == {"xmadapter/jobs/classification.py": 2}
    (jobs,) = [tree for path, tree in trees.items() if path.match("jobs/classification.py")]
    inside = {node.name: openers(node) for node in jobs.body if isinstance(node, ast.FunctionDef)}
    assert inside["_open_tests"] == 2
    callers = [
        node.name for node in jobs.body if isinstance(node, ast.FunctionDef) and "_open_tests(" in ast.unparse(node)
    ]
    assert callers == ["evaluate_classification", "_open_tests"]
    captioned = Counter(
        {name: openers(tree, "captioned_test") for name, tree in zip(found, trees.values(), strict=True)}
    )
    # `xmadapter recall` fits nothing; the other is the final test.
    assert +captioned == {"xmadapter/jobs/checks.py": 1, "xmadapter/jobs/retrieval.py": 1}


def pipeline_of(file: Path) -> str:
    """The pipeline that the first line of a config names."""
    return file.read_text(encoding="utf-8").removeprefix("# python -m pipelines.").partition(" ")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_a_config_of_the_repository_loads(file):
    kind = pipeline_of(file)
    assert isinstance(load(CONFIGS[kind], file), CONFIGS[kind])


def test_every_pipeline_has_a_config():
    assert len(FILES) >= len(CONFIGS)
    assert {path.stem for path in PIPELINES} - {"__init__"} == set(map(pipeline_of, FILES)) == CONFIGS.keys()


@pytest.mark.parametrize("file", PIPELINES, ids=lambda file: file.name)
def test_a_pipeline_is_a_thin_shell(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 40
