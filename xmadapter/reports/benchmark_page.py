"""A benchmark as files: Markdown, CSV and pictures."""

from collections.abc import Sequence
from pathlib import Path

from xmadapter.errors import MissingExtra
from xmadapter.evaluation import Interval
from xmadapter.reports.benchmark import (
    BenchmarkEntry,
    average_over_sets,
    benchmark_csv,
    margins,
    mean_ranks,
    over_everything,
)
from xmadapter.reports.elsewhere import short_classes
from xmadapter.reports.grid import Grid, make_grid
from xmadapter.reports.markdown import accuracy_markdown, elsewhere_markdown, escaped, table_markdown
from xmadapter.reports.tables import accuracy_cell, setting_line
from xmadapter.reports.wording import bounds, count_of, points, shots_title
from xmadapter.storage import local_path, make_folder, write_durably

__all__ = ["render_benchmark", "write_benchmark"]


def write_benchmark(entries: Sequence[BenchmarkEntry], *, reference: str, output: str) -> Path:
    """Write benchmark.md, benchmark.csv, and a picture of accuracy over shots and one of accuracy over size for each encoder.

    Args:
        entries: Every result.
        reference: Title of the method that the others are compared with.
        output: Folder; files of an earlier benchmark are replaced.

    Returns:
        Path of benchmark.md.

    Raises:
        MissingExtra: matplotlib is not installed; nothing was written.
        ResourceError: The folder cannot be written.
    """
    try:
        from xmadapter.reports.plots import plot_accuracy, plot_cost
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"pictures need {error.name}, which is not installed; nothing was written; pip install 'xmadapter[reports]'"
        ) from error
    contents = {"benchmark.csv": benchmark_csv(entries)}
    for encoder, own in _by_encoder(entries).items():
        grid, title = average_over_sets(own), f"{encoder}, mean over {count_of(len(_sets(own)), 'data set')}"
        contents[f"accuracy-{encoder}.png"] = plot_accuracy(grid, title=title)
        contents[f"cost-{encoder}.png"] = plot_cost(grid, title=title)
    contents["benchmark.md"] = render_benchmark(entries, reference=reference).encode()
    folder = make_folder(local_path(output))
    for name, content in contents.items():
        write_durably(folder / name, lambda file, content=content: file.write(content))
    return folder / "benchmark.md"


def render_benchmark(entries: Sequence[BenchmarkEntry], *, reference: str) -> str:
    """Lay out a benchmark as Markdown, encoder by encoder."""
    sections = ["# Benchmark"]
    for encoder, own in _by_encoder(entries).items():
        grid = average_over_sets(own)
        sections += [f"## {escaped(encoder)}", escaped(setting_line(grid)), *_averages(grid, own, reference)]
        for name in _sets(own):
            part = [entry for entry in own if entry.set == name]
            of_set = make_grid([entry.final for entry in part])
            sections += [f"### {escaped(name)}", f"Split {part[0].split_hash[:12]}. {escaped(setting_line(of_set))}"]
            sections += [*map(escaped, short_classes(of_set)), accuracy_markdown(of_set), *_collapses(of_set)]
            sections += elsewhere_markdown(of_set, level=4)
    return "\n\n".join(sections) + "\n"


def _averages(grid: Grid, entries: Sequence[BenchmarkEntry], reference: str) -> list[str]:
    sets = count_of(len(_sets(entries)), "data set")
    found = margins(entries, reference)
    differences = sorted(over_everything(grid, reference).items(), key=lambda item: item[1].estimate)
    in_brackets = "" if grid.finals[0].choice.mean_validation is None else "; in brackets on validation images"
    parts = [
        f"### Mean over {sets}",
        f"Mean accuracy in % ± half the 95 % t-interval over seeds{in_brackets}.",
        accuracy_markdown(grid),
        f"### {escaped(reference)} minus each other method",
        f"Percent points, a mean over {sets} and {count_of(len(grid.shots), 'shot count')}, with the 95 % t-interval over paired seeds.",
        table_markdown(["method", "difference"], [[escaped(name), _difference(value)] for name, value in differences]),
        f"### {escaped(reference)} minus the best other method, picked by its test accuracy",
        table_markdown(
            ["data set", *map(shots_title, grid.shots)],
            [
                [
                    escaped(name),
                    *(f"{_difference(m.difference)} {escaped(m.best_other)}" for m in found if m.set == name),
                ]
                for name in _sets(entries)
            ],
        ),
        *_ranks(grid, entries),
        f"### Cost at {shots_title(grid.shots[-1])}",
        table_markdown(["method", "accuracy", "trained parameters", "stored kB", "fit and test, s"], _costs(grid)),
    ]
    return [part for part in parts if part]


def _ranks(grid: Grid, entries: Sequence[BenchmarkEntry]) -> list[str]:
    found = [(shots, mean_ranks(entries, shots)) for shots in grid.shots]
    rows = [(shots, *ranking) for shots, ranking in found if ranking is not None]
    if not rows:
        return []
    cells = [[escaped(method), *(f"{ranks[method]:.2f}" for _, ranks, _ in rows)] for method in rows[0][1]]
    critical = rows[0][2]
    return [
        "### Mean rank over data sets",
        f"1 is the best. Ranks closer than {critical:.2f} cannot be told apart at 95 % (Nemenyi).",
        table_markdown(["method", *(shots_title(shots) for shots, _, _ in rows)], cells),
    ]


def _costs(grid: Grid) -> list[list[str]]:
    finals = [grid.of(method)[-1] for method in grid.methods]
    return [
        [
            escaped(final.choice.method),
            accuracy_cell(final),
            f"{final.choice.trained_parameters:,}",
            f"{final.choice.stored_bytes / 1000:,.1f}",
            f"{final.seconds:.1f}",
        ]
        for final in sorted(finals, key=lambda final: -final.interval.estimate)
    ]


def _collapses(grid: Grid) -> list[str]:
    """Name results of which one seed lies far below the others: a mean hides it."""
    lines = [
        f"- {escaped(final.choice.method)} at {shots_title(final.choice.shots)} collapsed with seed {seed}"
        for final in grid.finals
        for seed in final.collapsed
    ]
    return ["\n".join(lines)] if lines else []


def _difference(interval: Interval) -> str:
    text = (
        f"{points(interval.estimate)} ({bounds(interval)})"
        if interval.high > interval.low
        else points(interval.estimate)
    )
    return f"**{text}**" if interval.low > 0 or interval.high < 0 else text


def _by_encoder(entries: Sequence[BenchmarkEntry]) -> dict[str, list[BenchmarkEntry]]:
    found: dict[str, list[BenchmarkEntry]] = {}
    for entry in entries:
        found.setdefault(entry.encoder, []).append(entry)
    return found


def _sets(entries: Sequence[BenchmarkEntry]) -> list[str]:
    return list(dict.fromkeys(entry.set for entry in entries))
