"""What was chosen and what it took: hyperparameters, cost, and accuracy class by class."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from xmadapter.config import AdapterConfig, RetrievalConfig
from xmadapter.final import FinalResult
from xmadapter.reports.grid import Grid
from xmadapter.trial import TrialResult

__all__ = ["Chosen", "Cost", "chosen_rows", "class_rows", "cost_rows", "departures", "drawn", "flat"]


@dataclass(frozen=True)
class Chosen:
    """Hyperparameters of one method, as text.

    Args:
        method: Title of the method.
        shots: Shot counts at which they were chosen, ascending.
        trained: What the search drew, and what the config sets apart from the defaults.
        solved: What was found inside the trial, on validation images; it replaces values of the training.
    """

    method: str
    shots: tuple[int, ...]
    trained: str
    solved: str


@dataclass(frozen=True)
class Cost:
    """What one method took.

    Args:
        method: Title of the method.
        trials: Trials that finished, at all shot counts.
        trial_seconds: Their wall time, summed.
        shots: The largest shot count of the method; what follows belongs to it.
        trained_parameters: Per seed.
        stored_kb: What one seed needs to predict, in 1000 bytes.
        final_seconds: Wall time of fitting the choice again for all seeds and scoring the test split.
    """

    method: str
    trials: int
    trial_seconds: float
    shots: int
    trained_parameters: int
    stored_kb: float
    final_seconds: float


def chosen_rows(grid: Grid, trials: Sequence[TrialResult]) -> list[Chosen]:
    """List the chosen hyperparameters, method by method, by ascending shots; shot counts that chose the same share a row.

    A field is named where any trial of the method departs from the default, so a default that won is shown too.
    """
    rows: dict[tuple[str, str, str], tuple[int, ...]] = {}
    for method in grid.methods:
        finals = grid.of(method)
        adapters = [trial.adapter for trial in trials if trial.method == method]
        shown = departures([*adapters, *(final.choice.adapter for final in finals)])
        for final in finals:
            row = (method, drawn(final.choice.adapter, shown), _pairs(final.choice.solved))
            rows[row] = (*rows.get(row, ()), final.choice.shots)
    return [Chosen(method, shots, trained, solved) for (method, trained, solved), shots in rows.items()]


def cost_rows(grid: Grid, trials: Sequence[TrialResult]) -> list[Cost]:
    """Count what each method took."""
    rows = []
    for method in grid.methods:
        largest = grid.of(method)[-1]
        seconds = [trial.seconds for trial in trials if trial.method == method]
        rows.append(
            Cost(
                method=method,
                trials=len(seconds),
                trial_seconds=sum(seconds),
                shots=largest.choice.shots,
                trained_parameters=largest.choice.trained_parameters,
                stored_kb=largest.choice.stored_bytes / 1000,
                final_seconds=largest.seconds,
            )
        )
    return rows


def class_rows(final: FinalResult, class_names: Sequence[str]) -> list[tuple[str, float]]:
    """Pair class names with accuracies in [0, 1], the lowest first; classes without a test image are left out."""
    pairs = zip(class_names, final.class_accuracy, strict=True)
    return sorted(((name, share) for name, share in pairs if share is not None), key=lambda row: row[1])


def departures(adapters: Iterable[AdapterConfig | RetrievalConfig]) -> list[str]:
    """Name the fields in which any of the configs departs from its defaults, in order of definition."""
    names: dict[str, None] = {}
    for adapter in adapters:
        defaults = flat(type(adapter).model_validate({}).model_dump(mode="json"))
        values = flat(adapter.model_dump(mode="json"))
        names |= dict.fromkeys(name for name, value in values.items() if value != defaults.get(name))
    return list(names)


def drawn(adapter: AdapterConfig | RetrievalConfig, names: Sequence[str]) -> str:
    """Write the values that a config has in some of its fields, as in `width 8, fit.epochs 5`."""
    values = flat(adapter.model_dump(mode="json"))
    return _pairs({name: values[name] for name in names if name in values})


def flat(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Flatten nested fields to dotted names, one level deep."""
    flat: dict[str, JsonValue] = {}
    for name, value in values.items():
        flat |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _pairs(values: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: JsonValue) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
