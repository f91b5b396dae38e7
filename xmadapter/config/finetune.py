"""Configuration of a sweep over adapters inside an encoder, on captioned images."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from xmadapter.config.base import ClusterConfig, Frozen, TrackingConfig
from xmadapter.config.encoder_adapters import RetrievalConfig
from xmadapter.config.search import SearchConfig
from xmadapter.config.sweep import MethodConfig, check_titles

__all__ = ["FinetuneConfig"]


class FinetuneConfig(Frozen):
    """One sweep: methods over numbers of training images, on one feature store with captions.

    What is chosen is chosen by recall on the validation split, averaged over both directions and K of 1, 5 and 10.
    """

    features: str = Field(description="Folder of the feature store; its captions and images are what is trained on.")
    output: str = Field(description="Folder of the ledger and of everything that follows from this sweep.")
    experiment: str = Field(min_length=1, description="MLflow experiment; name it after the data set.")
    methods: tuple[MethodConfig[RetrievalConfig], ...] = Field(min_length=1)
    images: Literal["all"] | tuple[Annotated[int, Field(ge=2)], ...] = Field(
        default="all", description="Numbers of training images, drawn by seed, each with its captions; `all` there are."
    )
    seeds: tuple[int, ...] = Field(
        default=(1, 2, 3), min_length=1, description="Of the images drawn, of the order of training and of its start."
    )
    search: SearchConfig = SearchConfig()
    states: str | None = Field(
        default=None,
        description="Folder or bucket where training states are kept, so that a lost trial goes on where it was and the final test "
        "need not train again; every node must reach it. Empty: OUTPUT/states, which one machine or a shared folder offers.",
    )
    max_failed_fraction: float = Field(
        default=0.2, ge=0, le=1, description="Share of trials that may fail before the sweep stops."
    )
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for values in (self.seeds, self.images):
            if len(set(values)) < len(values) and values != "all":
                raise ValueError(f"each value once, got {list(values)}")
        if not self.images:
            raise ValueError("images is empty; give numbers of training images, or `all`")
        check_titles(self.methods)
        return self

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of training images, which stand where a classification sweep has its shots.

        Raises:
            ValueError: They are still to be counted.
        """
        if self.images == "all":
            raise ValueError("images=all; count them in the store first")
        return tuple(sorted(self.images))
