"""Tables as plain text: the same in a terminal, a log and a file."""

import io

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["TERMINAL_COLUMNS", "plain", "plain_table"]

TERMINAL_COLUMNS = 100


def plain_table() -> Table:
    """Make a table with a rule below its head and nothing else."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))


def plain(table: Table, width: int = TERMINAL_COLUMNS) -> str:
    """Write a table as text without colour, every line ended by a line feed and without trailing spaces."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
