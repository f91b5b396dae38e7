"""docs/reliability.md names a test for every fault, and each test it names is there."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = {match[1]: match[2] for match in re.finditer(r"^\| ([FG]\d+) \|(.*)\|$", TABLE, re.MULTILINE)}
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
FAULTS = [f"F{number}" for number in range(1, 53)]
GOALS = ["G1", "G2", "G3", "G4", "G5", "G7", "G9", "G10", "G11"]


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_fault_and_goal_has_one_row_in_order():
    assert list(ROWS) == FAULTS + GOALS
    assert len(re.findall(r"^\| [FG]\d+ \|", TABLE, re.MULTILINE)) == len(ROWS)


def test_every_row_names_a_test():
    assert [row for row, text in ROWS.items() if not NAMED.search(text)] == []


def test_every_named_test_is_there():
    named = NAMED.findall(TABLE)
    paths = {path for path, _ in named}
    assert len(named) >= 80
    assert len(paths) >= 20
    assert [path for path in sorted(paths) if not (TESTS / path).is_file()] == []
    there = {path: functions_of(TESTS / path) for path in paths}
    assert [f"{path}::{name}" for path, name in named if name not in there[path]] == []
    assert all(name.startswith("test_") for _, name in named)
