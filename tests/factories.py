"""Small makers of what tests arrange: clustered features, episodes, plans, stores, results."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import settings

from xmadapter.adapters import FeatureAdapter, build_adapter
from xmadapter.config import AdapterConfig, ImageConfig, SelectionProtocol, TinySpec
from xmadapter.episodes import EpisodeBatch, sample_episode, stack_episodes
from xmadapter.features import (
    Begun,
    EncodePlan,
    EncodeRecipe,
    FeatureSet,
    FeatureStore,
    PlannedShard,
    Provenance,
    TestSet,
    TextBank,
    TuningData,
    begin,
    commit,
    finished_shards,
    image_schema,
    make_plan,
    open_features,
    text_schema,
    write_shard,
)
from xmadapter.seeding import derive_seed
from xmadapter.trial import TrialResult

LOGIT_SCALE = 20.0
"""Lower than CLIP's 100, so that votes and texts of eight dimensions decide together."""

PROVENANCE = Provenance("plan", "encoder", "split")

law = settings(deadline=None, max_examples=60)
"""Laws on a shared machine: no deadline, since a busy neighbour is no failure."""


def unit_rows(array: np.ndarray) -> np.ndarray:
    return (array / np.linalg.norm(array, axis=-1, keepdims=True)).astype(np.float32)


def class_centres(classes: int, dim: int, seed: int) -> np.ndarray:
    return unit_rows(np.random.default_rng(derive_seed(seed, "centres")).normal(size=(classes, dim)))


def make_feature_set(
    split: str,
    *,
    classes: int = 3,
    per_class: int = 6,
    dim: int = 8,
    views: int = 1,
    seed: int = 0,
    noise: float = 0.35,
) -> FeatureSet:
    """Images around class centres; each row follows from its id, so that more classes or images change no row."""
    centres = class_centres(classes, dim, seed)
    labels = np.repeat(np.arange(classes), per_class)
    ids = tuple(f"{split}/{label}/{number}" for label in range(classes) for number in range(per_class))
    streams = [np.random.default_rng(derive_seed(seed, name)) for name in ids]
    spread = np.stack([stream.normal(size=(views, dim)) for stream in streams])
    norms = np.stack([stream.uniform(0.5, 2, size=views) for stream in streams]).astype(np.float32)
    return FeatureSet(unit_rows(centres[labels][:, None] + noise * spread), norms, labels, ids)


def make_text(*, classes: int = 3, dim: int = 8, seed: int = 0, prompts: int = 2) -> TextBank:
    rng = np.random.default_rng(derive_seed(seed, "text"))
    features = unit_rows(class_centres(classes, dim, seed)[:, None] + 0.5 * rng.normal(size=(classes, prompts, dim)))
    return TextBank(features, tuple(f"class {label}" for label in range(classes)))


def make_tuning_data(
    *,
    classes: int = 3,
    per_class: int = 6,
    dim: int = 8,
    views: int = 3,
    seed: int = 0,
    protocol: SelectionProtocol = "fewshot-val",
    provenance: Provenance = PROVENANCE,
) -> TuningData:
    """Training images in `views` encodings (view 0 is the test transform), as many validation images in one."""
    shape = {"classes": classes, "per_class": per_class, "dim": dim, "seed": seed}
    train, validation = make_feature_set("train", views=views, **shape), make_feature_set("validation", **shape)
    text = make_text(classes=classes, dim=dim, seed=seed)
    return TuningData(protocol, train, validation, text, LOGIT_SCALE, provenance)


def make_test_set(*, provenance: Provenance = PROVENANCE, **shape: int) -> TestSet:
    return TestSet(make_feature_set("test", **shape), provenance)


def make_episodes(data: TuningData, *, shots: int = 2, seeds: Iterable[int] = (1, 2)) -> EpisodeBatch:
    return stack_episodes(data, [sample_episode(data, shots=shots, seed=seed) for seed in seeds])


def make_adapter(config: AdapterConfig, data: TuningData, episodes: EpisodeBatch) -> FeatureAdapter:
    return build_adapter(config, episodes, data.text, logit_scale=data.logit_scale)


def make_recipe(**changes: object) -> EncodeRecipe:
    values: dict[str, object] = {
        "encoder": TinySpec(dim=8),
        "image": ImageConfig(),
        "class_names": ("cat", "dog", "owl"),
        "prompts": ("a photo of a {}.", "a drawing of a {}."),
        "views": 2,
        "seed": 0,
        "rows_per_shard": 12,
        "batch_size": 4,
    }
    return EncodeRecipe.model_validate(values | changes)


def make_samples(
    *, per_class: int = 6, classes: int = 3, splits: tuple[str, ...] = ("train", "validation", "test")
) -> pa.Table:
    rows = [(split, label, number) for split in splits for label in range(classes) for number in range(per_class)]
    return pa.table(
        {
            "sample_id": [f"{split}/{label}/{number}" for split, label, number in rows],
            "split": [split for split, _, _ in rows],
            "media": [f"{split}/{label}/{number}.png" for split, label, number in rows],
            "label": pa.array([label for _, label, _ in rows], pa.int32()),
        }
    )


def make_encode_plan(samples: pa.Table | None = None, **changes: object) -> EncodePlan:
    return make_plan(make_recipe(**changes), make_samples() if samples is None else samples)


def make_table(shard: PlannedShard, *, dim: int = 8) -> pa.Table:
    """What an encoder would give for a shard; a row follows from its sample and view alone."""
    centres = class_centres(3, dim, 0)
    rows = [(sample, view) for sample in shard.samples for view in range(shard.views)]
    noise = [np.random.default_rng(derive_seed(sample.sample_id, view)).normal(size=dim) for sample, view in rows]
    raw = np.array([centres[sample.label] + 0.35 * one for (sample, _), one in zip(rows, noise, strict=True)]).reshape(
        -1, dim
    )
    schema = image_schema(dim) if shard.modality == "image" else text_schema(dim)
    columns: dict[str, list[object]] = {
        "sample_id": [sample.sample_id for sample, _ in rows],
        "label": [sample.label for sample, _ in rows],
        "view": [view for _, view in rows],
        "source_sha256": [bytes(32) for _ in rows],
        "prompt": [int(sample.sample_id.rpartition("/")[2]) if shard.modality == "text" else 0 for sample, _ in rows],
        "text": [sample.media for sample, _ in rows],
        "norm": np.linalg.norm(raw, axis=1).astype(np.float32).tolist(),
        "feature": list(unit_rows(raw)),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def begin_plan(folder: Path, plan: EncodePlan, *, replan: bool = False) -> Begun:
    """Begin a store with the samples of a plan."""
    images = plan.table.filter(pc.field("modality") == "image")
    return begin(str(folder), plan.recipe, images, replan=replan)


def write_shards(folder: Path, plan: EncodePlan) -> None:
    """Write every shard of a plan that is not there, without the manifest."""
    finished = finished_shards(str(folder), plan)
    for shard in plan.shards:
        if shard.uid not in finished:
            write_shard(str(folder), shard, make_table(shard), logit_scale=LOGIT_SCALE)


def make_store(folder: Path, plan: EncodePlan | None = None, *, replan: bool = False) -> FeatureStore:
    """A committed feature store with made features; the same folder again extends it."""
    begun = begin_plan(folder, make_encode_plan() if plan is None else plan, replan=replan)
    write_shards(folder, begun.plan)
    commit(str(folder), begun, max_skip_fraction=0)
    return open_features(str(folder))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes, except what a killed writer left under a temporary name."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".tmp-")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def listing(folder: Path) -> list[str]:
    """Names in a folder, hidden ones too, sorted."""
    return sorted(path.name for path in folder.iterdir())


def make_result(**changes: object) -> TrialResult:
    values: dict[str, object] = {
        "method": "Tip-Adapter",
        "adapter": {"kind": "tip"},
        "solved": {},
        "shots": 2,
        "seeds": (1, 2),
        "protocol": "fewshot-val",
        "validation": (0.5, 0.6),
        "validation_rows": 6,
        "solved_points": 0,
        "trained_parameters": 0,
        "stored_bytes": 1,
        "seconds": 0.1,
    }
    return TrialResult.model_validate(values | changes)
