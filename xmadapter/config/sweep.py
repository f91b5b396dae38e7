"""Configuration of a sweep and of what follows it: the final test, the report and the export."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Generic, Self, cast

from pydantic import Field, JsonValue, field_validator, model_validator
from typing_extensions import TypeVar

from xmadapter.config.adapters import AdapterConfig, with_parameters
from xmadapter.config.base import Classes, ClusterConfig, Frozen, SelectionProtocol, ShortClasses, TrackingConfig
from xmadapter.config.encoder_adapters import RetrievalConfig
from xmadapter.config.search import SearchConfig
from xmadapter.config.space import Choice, Range, SolveRange, SpaceEntry

__all__ = ["EvaluateConfig", "ExportConfig", "MethodConfig", "ReportConfig", "SweepConfig", "check_titles"]

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", max_length=60)]
"""As MLflow takes it in the name of a metric."""


_Adapter = TypeVar("_Adapter", bound=AdapterConfig | RetrievalConfig, default=AdapterConfig)


class MethodConfig(Frozen, Generic[_Adapter]):
    """One adapter and how its hyperparameters are searched; an empty field takes the method's recommendation."""

    adapter: _Adapter
    space: dict[str, SpaceEntry] | None = Field(
        default=None, description="Fields that change the training: one trial per draw."
    )
    solve: dict[str, SolveRange] | None = Field(
        default=None, description="Fields solved inside each trial, over the whole grid."
    )
    trials: int | None = Field(default=None, ge=1, description="Draws per shot count; 1 where `space` is empty.")
    name: str | None = Field(
        default=None, min_length=1, max_length=80, description="How the method is shown; must be unique in a sweep."
    )

    @model_validator(mode="after")
    def _known_fields(self) -> Self:
        trained = [name for name in self.solve_grid if name not in self.adapter.solvable]
        if trained:
            can = ", ".join(self.adapter.solvable) or "nothing"
            raise ValueError(f"{trained[0]} cannot be solved inside a trial; {can} can; put it in `space`")
        for name, entry in (*self.search_space.items(), *self.solve_grid.items()):
            for value in _extremes(entry):
                with_parameters(self.adapter, {name: value})
        return self

    @property
    def title(self) -> str:
        """Name in tables, plots and MLflow."""
        return self.name or self.adapter.title

    @property
    def search_space(self) -> Mapping[str, SpaceEntry]:
        """What trials draw."""
        return self.adapter.default_space if self.space is None else self.space

    @property
    def solve_grid(self) -> Mapping[str, SolveRange]:
        """What a trial solves."""
        return self.adapter.default_solve if self.solve is None else self.solve

    @property
    def draws(self) -> int:
        """Number of trials per shot count."""
        return (self.trials or self.adapter.default_trials) if self.search_space else 1

    def inside(self, draw: Mapping[str, JsonValue]) -> bool:
        """Say whether a draw names just the searched fields, with values inside their ranges."""
        return draw.keys() == self.search_space.keys() and all(
            _contains(entry, draw[name]) for name, entry in self.search_space.items()
        )

    @property
    def as_configured(self) -> dict[str, JsonValue] | None:
        """The searched fields as the adapter has them; None where nothing is searched, or one lies outside the space."""
        draw = {name: _field(self.adapter, name) for name in self.search_space}
        return draw if draw and self.inside(draw) else None


def _field(value: object, path: str) -> JsonValue:
    for key in path.split("."):
        value = getattr(value, key)
    return cast("JsonValue", value)


def _contains(entry: SpaceEntry, value: JsonValue) -> bool:
    match entry:
        case Choice(choices=choices):
            return value in choices
        case Range(low=low, high=high):
            return isinstance(value, int | float) and low <= value <= high


def _extremes(entry: SpaceEntry | SolveRange) -> tuple[str | float | bool, ...]:
    match entry:
        case Choice(choices=choices):
            return choices
        case Range(low=low, high=high) | SolveRange(low=low, high=high):
            return (low, high)


def check_titles(methods: Iterable[MethodConfig[Any]]) -> None:
    """Refuse two methods of one title: tables and runs would mix them up.

    Raises:
        ValueError: Names the title.
    """
    titles = [method.title for method in methods]
    doubles = sorted({title for title in titles if titles.count(title) > 1})
    if doubles:
        raise ValueError(f"two methods are called {doubles[0]!r}; give one of them a `name`")


class SweepConfig(Frozen):
    """One sweep: methods over shot counts on one feature store."""

    features: str = Field(description="Folder of the feature store.")
    output: str = Field(description="Folder of the ledger and of everything that follows from this sweep.")
    experiment: str = Field(min_length=1, description="MLflow experiment; name it after the data set.")
    methods: tuple[MethodConfig, ...] = Field(min_length=1)
    protocol: SelectionProtocol = "fewshot-val"
    shots: tuple[int, ...] = Field(default=(1, 2, 4, 8, 16), min_length=1)
    seeds: tuple[int, ...] = Field(
        default=(1, 2, 3), min_length=1, description="Episodes: which images are drawn as shots."
    )
    classes: Classes = Field(
        default="all",
        description="base: tune on the first half of the classes, test on them and on the others (base to novel).",
    )
    short_classes: ShortClasses = Field(
        default="refuse", description="What to do where a class has fewer images than shots."
    )
    search: SearchConfig = SearchConfig()
    max_failed_fraction: float = Field(
        default=0.2, ge=0, le=1, description="Share of trials that may fail before the sweep stops."
    )
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @field_validator("shots")
    @classmethod
    def _positive(cls, shots: tuple[int, ...]) -> tuple[int, ...]:
        if min(shots) < 1:
            raise ValueError(
                f"shots are images a class, at least 1, got {min(shots)}; add the method zero-shot for none"
            )
        return tuple(sorted(shots))

    @field_validator("shots", "seeds")
    @classmethod
    def _unique(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"each value once, got {list(values)}")
        return values

    @model_validator(mode="after")
    def _validation_for_pruning(self) -> "SweepConfig":
        if self.search.pruning is not None and self.protocol == "no-val":
            raise ValueError(
                "search.pruning compares validation accuracy, and no-val has none; choose another protocol"
            )
        return self

    @model_validator(mode="after")
    def _unique_titles(self) -> "SweepConfig":
        check_titles(self.methods)
        return self


class EvaluateConfig(Frozen):
    """The final test of a finished sweep."""

    sweep: str = Field(description="Output folder of the sweep.")
    shifted: dict[_Name, str] = Field(
        default_factory=dict,
        description="Other feature stores of the same encoder and classes, by the name they are reported under; "
        "their test splits are looked at, too.",
    )
    cluster: ClusterConfig | None = Field(
        default=None, description="Where choices are fitted; empty: where the sweep ran."
    )


class ReportConfig(Frozen):
    """The report of an evaluated sweep."""

    sweep: str = Field(description="Output folder of the sweep.")
    output: str = Field(description="Folder of the report.")


class ExportConfig(Frozen):
    """The bundle of one choice; empty fields mean the best by validation."""

    sweep: str = Field(description="Output folder of the sweep.")
    output: str = Field(description="Folder of the bundle.")
    method: str | None = Field(default=None, description="Title of the method.")
    shots: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, description="Episode to export; empty means the first of the sweep.")
