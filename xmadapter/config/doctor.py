"""Configuration of a cluster check."""

from pydantic import Field

from xmadapter.config.base import ClusterConfig, Frozen, TrackingConfig

__all__ = ["DoctorConfig"]


class DoctorConfig(Frozen):
    """What a cluster must be able to do before jobs are submitted to it."""

    store: str = Field(description="Folder or bucket prefix where jobs will write; every node must reach the same one.")
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()
    dashboard: str = Field(
        default="http://127.0.0.1:8265", description="Of the head, as the head itself sees it; asked without a token."
    )
    timeout_s: float = Field(
        default=600, gt=0, description="How long a node may take to come, and to answer; a cloud needs minutes."
    )
