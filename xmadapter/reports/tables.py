"""Comparison tables: as a plain Arrow table, and as text for the terminal."""

from collections.abc import Sequence

import pyarrow as pa
from rich.text import Text

from xmadapter.final import FinalResult
from xmadapter.reports.grid import Grid, make_grid
from xmadapter.reports.terminal import TERMINAL_COLUMNS, plain, plain_table
from xmadapter.reports.wording import count_of, half_width, listed, percent, shots_title, visible

__all__ = ["COMPARISON_SCHEMA", "comparison", "setting_line", "summary_table", "accuracy_cell"]

COMPARISON_SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("protocol", pa.string()),
        ("shots", pa.int32()),
        ("seeds", pa.int32()),
        ("selection_mean", pa.float64()),
        ("validation_mean", pa.float64()),
        ("test_mean", pa.float64()),
        ("test_low", pa.float64()),
        ("test_high", pa.float64()),
        ("bootstrap_low", pa.float64()),
        ("bootstrap_high", pa.float64()),
        ("level", pa.float64()),
        ("first_seed", pa.int32()),
        ("first_seed_test", pa.float64()),
        ("first_seed_wilson_low", pa.float64()),
        ("first_seed_wilson_high", pa.float64()),
        ("validation_images", pa.int32()),
        ("test_images", pa.int32()),
        ("trained_parameters", pa.int64()),
        ("stored_bytes", pa.int64()),
        ("final_seconds", pa.float64()),
    ]
)
"""Accuracies are shares in [0, 1]. `test_low` and `test_high` bound the mean over seeds for other shots, `bootstrap_low` and
`bootstrap_high` for other test images (empty in means over data sets); the Wilson pair bounds one seed."""

_NAME_COLUMNS, _CELL_COLUMNS = 24, 13


def comparison(finals: Sequence[FinalResult]) -> pa.Table:
    """Tabulate final results, one row per method and shot count, as `COMPARISON_SCHEMA`.

    Characters of a name that do not print are spelled out.

    Raises:
        ConfigError: The results were not measured in the same way.
    """
    grid = make_grid(finals)
    rows = [_row(final) for method in grid.methods for final in grid.of(method)]
    return pa.Table.from_pylist(rows, schema=COMPARISON_SCHEMA)


def _row(final: FinalResult) -> dict[str, str | float | None]:
    choice = final.choice
    return {
        "method": visible(choice.method),
        "protocol": choice.protocol,
        "shots": choice.shots,
        "seeds": len(choice.seeds),
        "selection_mean": choice.score,
        "validation_mean": choice.mean_validation,
        "test_mean": final.interval.estimate,
        "test_low": final.interval.low,
        "test_high": final.interval.high,
        "bootstrap_low": final.bootstrap.low if final.bootstrap else None,
        "bootstrap_high": final.bootstrap.high if final.bootstrap else None,
        "level": final.interval.level,
        "first_seed": choice.seeds[0],
        "first_seed_test": final.test[0],
        "first_seed_wilson_low": final.wilson[0].low,
        "first_seed_wilson_high": final.wilson[0].high,
        "validation_images": choice.validation_rows,
        "test_images": final.test_rows,
        "trained_parameters": choice.trained_parameters,
        "stored_bytes": choice.stored_bytes,
        "final_seconds": final.seconds,
    }


def accuracy_cell(final: FinalResult) -> str:
    """Write the test accuracy of a cell, `72.8 ±4.1`; without the second part where seeds do not differ."""
    return f"{percent(final.interval.estimate)} {half_width(final.interval)}".strip()


def protocol_name(grid: Grid) -> str:
    """Name the protocol, and what is wrong with it where something is."""
    return "oracle (chosen on the test split)" if grid.protocol == "oracle" else grid.protocol


def setting_line(grid: Grid) -> str:
    """Say how the numbers of a table were measured."""
    seeds = "seed" if len(grid.seeds) == 1 else "seeds"
    return f"Protocol {protocol_name(grid)}; {seeds} {listed(grid.seeds)}; {count_of(grid.test_rows, 'test image')}."


def summary_table(finals: Sequence[FinalResult]) -> str:
    """Lay out test and validation accuracy for a terminal, one row per method, one column per shot count.

    Returns:
        Plain text without colour, at most 100 columns wide for up to 5 shot counts, ending in a line feed.

    Raises:
        ConfigError: The results were not measured in the same way.
    """
    grid = make_grid(finals)
    table = plain_table()
    table.add_column("method", overflow="fold")
    for shots in grid.shots:
        table.add_column(shots_title(shots), justify="right", no_wrap=True)
    for method in grid.methods:
        # Text, not str: a str is read as markup, and a method may be called "[red]".
        cells = [_terminal_cell(grid.at(method, shots)) for shots in grid.shots]
        table.add_row(Text(visible(method)), *map(Text, cells))
    width = max(TERMINAL_COLUMNS, _NAME_COLUMNS + _CELL_COLUMNS * len(grid.shots))
    return f"{_meaning(grid)}\n{setting_line(grid)}\n\n{plain(table, width)}"


def _terminal_cell(final: FinalResult | None) -> str:
    if final is None:
        return "-"
    validation = final.choice.mean_validation
    return accuracy_cell(final) if validation is None else f"{accuracy_cell(final)}\nval {percent(validation)}"


def _meaning(grid: Grid) -> str:
    below = "" if grid.finals[0].choice.mean_validation is None else "; below it validation accuracy"
    if len(grid.seeds) == 1:
        return f"Test accuracy in %, of one seed{below}."
    level = f"{100 * grid.finals[0].interval.level:.0f}"
    return f"Test accuracy in %, mean ± half the {level} % t-interval over seeds{below}."
