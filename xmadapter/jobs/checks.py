"""What is looked at without a sweep: sources of a store, recall of its features as they are, the cost of sweeps to come."""

import hashlib
import os
from collections.abc import Sequence

import torch
from tqdm import tqdm

from xmadapter.config import FinetuneConfig, SweepConfig
from xmadapter.data import BadImage, read_media
from xmadapter.errors import DataError, some
from xmadapter.evaluation.retrieval import RetrievalReport, evaluate_retrieval
from xmadapter.features import FeatureStore, load_plan, open_features
from xmadapter.forecast import forecast
from xmadapter.reports import forecast_table

__all__ = ["check_sources", "forecast_sweeps", "measure_recall"]


def check_sources(store: FeatureStore) -> int:
    """Read every source image of a store again; returns how many are what was encoded.

    Raises:
        DataError: Images are gone or have other bytes; names some of them.
    """
    manifest = store.manifest
    plan = load_plan(store.root, manifest.recipe, manifest.plan_fingerprint)
    place = {sample.sample_id: sample.media for shard in plan.shards for sample in shard.samples}
    encoded = {}
    for info in manifest.shards:
        if info.modality == "image":
            table = store.read(info)
            encoded.update(zip(table["sample_id"].to_pylist(), table["source_sha256"].to_pylist(), strict=True))
    changed = [sample for sample, digest in tqdm(encoded.items(), unit="image") if _digest(place[sample]) != digest]
    if changed:
        raise DataError(
            f"{len(changed)} of {len(encoded)} source images changed since {store.root} was encoded: {some(changed)}; "
            "its features are kept; restore the images, or run pipelines.encode with replan=true"
        )
    return len(encoded)


def _digest(media: str) -> bytes | None:
    try:
        return hashlib.sha256(read_media(media)).digest()
    except BadImage:
        return None


def forecast_sweeps(configs: Sequence[SweepConfig | FinetuneConfig]) -> str:
    """Say what sweeps would run and how long it would take on this machine; nothing is recorded.

    Raises:
        EpisodeError: A class has too few images.
        ConfigError: A method fails as it is configured.
    """
    return forecast_table(forecast(configs), slots=os.cpu_count() or 1)


def measure_recall(features: str, split: str) -> tuple[RetrievalReport, int]:
    """Measure how captions find their images in a split of a store, and images their captions; also count its images.

    Raises:
        DataError: The store has no captions in the split.
    """
    store = open_features(features)
    data = store.captioned_test() if split == "test" else store.captioned("validation")
    text, image, own = (torch.from_numpy(part) for part in (data.text, data.image, data.image_of_text))
    return evaluate_retrieval(text, image, own), len(data)
