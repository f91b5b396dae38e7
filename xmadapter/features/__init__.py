"""The feature store: plan, shards, manifest, and the two doors to what they hold."""

from xmadapter.features.captioned import CaptionedImages, FeatureSpace, RetrievalData, without_captions
from xmadapter.features.changes import PlanChanges, compare_plans
from xmadapter.features.featureset import FeatureSet, Provenance, TestSet, TextBank, TuningData, base_classes
from xmadapter.features.manifest import FeatureManifest, ShardInfo, ShardRecord, Skipped, latest_manifest
from xmadapter.features.plan import EncodePlan, EncodeRecipe, PlannedSample, PlannedShard, make_plan
from xmadapter.features.planfile import load_plan, load_planned_shard, save_plan
from xmadapter.features.reading import FeatureStore, open_features, read_shard
from xmadapter.features.schema import image_schema, text_schema
from xmadapter.features.store import Begun, begin, claim_of, commit, disk_shortage, finished_shards, write_shard
from xmadapter.features.upkeep import Repair, collect, repair, verify

__all__ = [
    "Begun",
    "CaptionedImages",
    "EncodePlan",
    "EncodeRecipe",
    "FeatureManifest",
    "FeatureSet",
    "FeatureSpace",
    "FeatureStore",
    "PlanChanges",
    "PlannedSample",
    "PlannedShard",
    "Provenance",
    "Repair",
    "RetrievalData",
    "ShardInfo",
    "ShardRecord",
    "Skipped",
    "TestSet",
    "TextBank",
    "TuningData",
    "base_classes",
    "begin",
    "claim_of",
    "collect",
    "commit",
    "compare_plans",
    "disk_shortage",
    "finished_shards",
    "image_schema",
    "latest_manifest",
    "load_plan",
    "load_planned_shard",
    "make_plan",
    "open_features",
    "read_shard",
    "repair",
    "save_plan",
    "text_schema",
    "verify",
    "without_captions",
    "write_shard",
]
