"""The feature store: plan, shards, manifest, and the two doors to what they hold."""

from xmadapter.features.featureset import FeatureSet, Provenance, TestSet, TextBank, TuningData
from xmadapter.features.manifest import FeatureManifest, ShardInfo, ShardRecord, Skipped, latest_manifest
from xmadapter.features.plan import EncodePlan, EncodeRecipe, PlannedSample, PlannedShard, make_plan
from xmadapter.features.reading import FeatureStore, open_features, read_shard
from xmadapter.features.schema import image_schema, text_schema
from xmadapter.features.store import begin, commit, finished_shards, write_shard

__all__ = [
    "EncodePlan",
    "EncodeRecipe",
    "FeatureManifest",
    "FeatureSet",
    "FeatureStore",
    "PlannedSample",
    "PlannedShard",
    "Provenance",
    "ShardInfo",
    "ShardRecord",
    "Skipped",
    "TestSet",
    "TextBank",
    "TuningData",
    "begin",
    "commit",
    "finished_shards",
    "image_schema",
    "latest_manifest",
    "make_plan",
    "open_features",
    "read_shard",
    "text_schema",
    "write_shard",
]
