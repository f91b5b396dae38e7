"""What a feature store says of itself: shard records and the manifest that names them."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from xmadapter.config import Frozen
from xmadapter.features.plan import EncodeRecipe
from xmadapter.sealed import unseal

__all__ = ["ADVICE", "FeatureManifest", "ShardInfo", "ShardRecord", "Skipped", "latest_manifest"]

ADVICE = "delete it and run pipelines.encode again"


class Skipped(Frozen):
    """A sample that could not be read."""

    sample_id: str
    reason: str


class ShardInfo(Frozen):
    """One shard file and the hash its bytes must have."""

    number: int
    name: str = Field(pattern=r"^[0-9]{6}-[0-9a-f]{16}\.arrow$")
    modality: Literal["image", "text"]
    split: Literal["train", "validation", "test"] | None
    views: int
    rows: int
    size_bytes: int
    sha256: str


class ShardRecord(Frozen):
    """A finished shard, written beside it before the manifest exists."""

    plan_fingerprint: str
    dim: int
    logit_scale: float
    info: ShardInfo
    skipped: tuple[Skipped, ...] = ()


class FeatureManifest(Frozen):
    """A committed feature store: the only truth about which files belong to it."""

    plan_fingerprint: str
    split_hash: str
    recipe: EncodeRecipe
    dim: int
    logit_scale: float
    shards: tuple[ShardInfo, ...]
    skipped: tuple[Skipped, ...]

    def of(self, split: str | None) -> tuple[ShardInfo, ...]:
        """Shards of one split, in order; None is the text."""
        return tuple(shard for shard in self.shards if shard.split == split)


def latest_manifest(folder: Path) -> tuple[int, FeatureManifest | None]:
    """Read the newest commit of a store; (0, None) where there is none."""
    versions = sorted(folder.glob("manifest-[0-9]*.json"))
    if not versions:
        return 0, None
    return int(versions[-1].stem.removeprefix("manifest-")), unseal(FeatureManifest, versions[-1], advice=ADVICE)
