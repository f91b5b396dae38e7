"""What every configuration value shares: frozen, closed, finite."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from xmadapter.fingerprint import fingerprint

__all__ = ["Classes", "ClusterConfig", "Frozen", "SelectionProtocol", "ShortClasses", "TrackingConfig"]

Classes = Literal["all", "base"]
ShortClasses = Literal["refuse", "take-all"]
SelectionProtocol = Literal["fewshot-val", "full-val", "no-val", "oracle"]
"""What hyperparameters are chosen on: `fewshot-val` takes min(shots, 4) validation images a class, as CoOp does;
`full-val` takes the whole validation split, as most published code does; `no-val` takes the support alone, as CLAP does.
None of them sees a test label. `oracle` chooses on the test split, as Tip-Adapter's code does on ImageNet: it reproduces published
numbers, is marked wherever it shows, and nothing it chose can be exported."""


class Frozen(BaseModel):
    """A value that refuses unknown fields and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def fingerprint(self) -> str:
        """Hash of the content; the order of keys and defaults left out in a file do not matter."""
        return fingerprint(self.model_dump(mode="json"))


class ClusterConfig(Frozen):
    """Where Ray runs."""

    address: str = Field(
        default="local", description="`local` starts Ray here; `auto` joins the cluster of a submitted job."
    )
    trial_gpus: float = Field(
        default=0.0, ge=0, le=1, description="Share of a GPU that a trial of a sweep takes; 0: trials run on CPU cores."
    )
    encoder_gpus: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of a GPU that an encoder takes; empty: a whole one where the cluster has any now, else none. "
        "Set it where GPU nodes start on demand, and `max_actors` of the encode config with it.",
    )
    trials_at_once: int | None = Field(
        default=None,
        ge=1,
        description="Trials to make room for where nodes start on demand; empty: as many as the cluster has room for now.",
    )


class TrackingConfig(Frozen):
    """Where runs are recorded."""

    uri: str | None = Field(
        default=None, description="MLflow address; empty means MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."
    )
    required: bool = Field(
        default=False,
        description="Stop before the first trial where MLflow does not answer; else results wait in the ledger.",
    )
