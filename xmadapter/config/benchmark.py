"""Configuration of a benchmark: data sets x encoders x methods, each encoded, swept and tested in the same way."""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from xmadapter.config.base import Classes, ClusterConfig, Frozen, SelectionProtocol, ShortClasses, TrackingConfig
from xmadapter.config.data import DataConfig
from xmadapter.config.encode import EncodeConfig, EncoderSpec, ImageConfig
from xmadapter.config.linear import ZeroShotConfig
from xmadapter.config.search import SearchConfig
from xmadapter.config.sweep import MethodConfig, SweepConfig

__all__ = ["BenchmarkCell", "BenchmarkConfig", "BenchmarkSet"]

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]
"""Of a folder, so that no name leaves the output."""


class BenchmarkSet(Frozen):
    """One data set of a benchmark, and the zero-shot accuracy that others found on it."""

    data: DataConfig
    image: ImageConfig = ImageConfig()
    prompts: tuple[str, ...] = Field(default=(), description="As in an encode config.")
    zero_shot: dict[_Name, float] = Field(
        default_factory=dict, description="Published zero-shot accuracy in %, by name of the encoder."
    )
    tolerance: float = Field(default=0.5, ge=0, description="Points by which ours may differ from it.")


class BenchmarkCell(NamedTuple):
    """One set with one encoder: what is run, in this order."""

    encoder: str
    set: str
    encode: EncodeConfig
    zero_shot: SweepConfig
    sweep: SweepConfig
    published: float | None
    tolerance: float


class BenchmarkConfig(Frozen):
    """Every set with every encoder; one protocol and one list of methods for all."""

    output: str = Field(description="Folder of sweeps and tables.")
    features: str | None = Field(default=None, description="Folder of feature stores; empty: inside the output.")
    encoders: dict[_Name, EncoderSpec] = Field(min_length=1)
    sets: dict[_Name, BenchmarkSet] = Field(min_length=1)
    methods: tuple[MethodConfig, ...] = Field(min_length=1)
    reference: str | None = Field(
        default=None, description="Title of the method that the others are compared with; empty: the last one."
    )
    protocol: SelectionProtocol = "fewshot-val"
    shots: tuple[int, ...] = Field(default=(1, 2, 4, 8, 16), min_length=1)
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    classes: Classes = Field(default="all", description="As in a sweep config.")
    short_classes: ShortClasses = Field(default="refuse", description="As in a sweep config.")
    search: SearchConfig = SearchConfig()
    views: int = Field(default=10, ge=0, le=1000, description="As in an encode config.")
    images_per_class: int | None = Field(default=None, ge=1, description="As in an encode config.")
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "BenchmarkConfig":
        titles = [method.title for method in self.methods]
        if self.reference is not None and self.reference not in titles:
            raise ValueError(f"reference {self.reference!r} is none of the methods: {', '.join(titles)}")
        unknown = sorted({name for one in self.sets.values() for name in one.zero_shot} - set(self.encoders))
        if unknown:
            raise ValueError(f"zero_shot names the encoder {unknown[0]!r}; there are {', '.join(self.encoders)}")
        next(self.cells())  # shots, seeds and methods are checked by the sweep they end up in
        return self

    @property
    def compared_with(self) -> str:
        """Title of the reference method."""
        return self.reference or self.methods[-1].title

    def cells(self) -> Iterator[BenchmarkCell]:
        """List what is run, set by set and in each encoder by encoder."""
        for name, one in self.sets.items():
            for encoder, spec in self.encoders.items():
                encode = EncodeConfig(
                    data=one.data,
                    output=f"{self.features or self.output + '/features'}/{encoder}/{name}",
                    encoder=spec,
                    image=one.image,
                    prompts=one.prompts,
                    views=self.views,
                    images_per_class=self.images_per_class,
                    cluster=self.cluster,
                )
                sweep = SweepConfig(
                    features=encode.output,
                    output=f"{self.output}/sweeps/{encoder}/{name}",
                    experiment=f"{name} {encoder}",
                    methods=self.methods,
                    protocol=self.protocol,
                    shots=self.shots,
                    seeds=self.seeds,
                    classes=self.classes,
                    short_classes=self.short_classes,
                    search=self.search,
                    tracking=self.tracking,
                    cluster=self.cluster,
                )
                check = {
                    "output": f"{self.output}/zero-shot/{encoder}/{name}",
                    "classes": "all",
                    "methods": (MethodConfig(adapter=ZeroShotConfig()),),
                    "shots": self.shots[:1],
                    "seeds": self.seeds[:1],
                    "search": SearchConfig(),
                }
                zero_shot = sweep.model_copy(update=check)
                published = one.zero_shot.get(encoder)
                yield BenchmarkCell(encoder, name, encode, zero_shot, sweep, published, one.tolerance)
