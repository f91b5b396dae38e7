"""Captioned stores: what is read of them, and searching them, against a look at every row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from PIL import Image

from tests.factories import make_recipe, make_samples, make_store, write_shards
from xmadapter.cli import cli
from xmadapter.config import MeanPooling, Pooling, TextPooling, ZeroShotRetrievalConfig
from xmadapter.encoders import build_encoder, build_preprocess
from xmadapter.errors import DataError
from xmadapter.features import FeatureStore, begin, commit, open_features
from xmadapter.features.schema import feature_matrix
from xmadapter.jobs import measure_recall
from xmadapter.retrieval import retrieval_model
from xmadapter.search import Found, Searcher, open_searcher


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Nine images a split, every third with two captions, every third with none."""
    captions = pa.array([["one", "two"], [], ["three"]] * 9)
    samples = make_samples(per_class=3).append_column("captions", captions)
    root = tmp_path_factory.mktemp("captions") / "features"
    begun = begin(str(root), make_recipe(class_names=(), prompts=(), rows_per_shard=4), samples)
    write_shards(root, begun.plan)
    commit(str(root), begun, max_skip_fraction=0)
    return open_features(str(root))


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("classes") / "features")


def search_images(store: FeatureStore, text: str, *, top: int) -> list[Found]:
    with open_searcher(store.root) as searcher:
        return searcher.images(text, top=top)


def search_captions(store: FeatureStore, image: Path, *, top: int) -> list[Found]:
    with open_searcher(store.root) as searcher:
        return searcher.captions(image, top=top)


def every_row(store: FeatureStore, modality: str) -> list[tuple[str, np.ndarray, str]]:
    tables = [store.read(info) for info in store.manifest.shards if info.modality == modality]
    return [
        (row["sample_id"], vector, row.get("text", ""))
        for table in tables
        for row, vector in zip(table.to_pylist(), feature_matrix(table), strict=True)
        if row.get("view", 0) == 0
    ]


def test_captions_go_with_their_images_and_images_without_any_are_left_out(store: FeatureStore):
    data = store.captioned("validation")
    assert len(data) == 6
    assert data.texts == ("one", "two", "three") * 3
    ids = [data.image_ids[row] for row in data.image_of_text]
    assert ids == [f"validation/{label}/{number}" for label in range(3) for number in (0, 0, 2)]
    features = {name: vector for name, vector, _ in every_row(store, "image")}
    np.testing.assert_array_equal(data.image, [features[name] for name in data.image_ids])
    assert {name.split("/")[0] for name in store.captioned_test().image_ids} == {"test"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Nine videos a split of three frames each, with a caption in the row of the first; four rows a shard, so that shards cut videos."""
    rows = [
        (split, video, frame) for split in ("train", "validation", "test") for video in range(9) for frame in range(3)
    ]
    samples = pa.table(
        {
            "sample_id": [f"{split}-{video}/00{frame}" for split, video, frame in rows],
            "split": [split for split, _, _ in rows],
            "media": [f"{split}-{video}.mp4#frame={frame}&of=3" for split, video, frame in rows],
            "label": pa.array([0] * len(rows), pa.int32()),
            "captions": pa.array([[f"video {video}"] if frame == 0 else [] for _, video, frame in rows]),
        }
    )
    root = str(tmp_path_factory.mktemp("videos"))
    begun = begin(root, make_recipe(class_names=(), prompts=(), rows_per_shard=4), samples)
    write_shards(root, begun.plan)
    commit(root, begun, max_skip_fraction=0)
    return open_features(root)


def test_a_store_of_videos_holds_frames_and_their_mean(videos: FeatureStore):
    data = videos.captioned("validation")
    assert data.image_ids == tuple(f"validation-{video}" for video in range(9))
    assert [data.texts[row] for row in np.argsort(data.image_of_text)] == [f"video {video}" for video in range(9)]
    features = {name: vector for name, vector, _ in every_row(videos, "image")}
    for video, frames, pooled in zip(data.image_ids, data.frames, data.image, strict=True):
        assert frames == tuple(f"{video}/00{frame}" for frame in range(3))
        mean = np.mean([features[frame] for frame in frames], axis=0)
        np.testing.assert_allclose(pooled, mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_array_equal(data.frame, [features[name] for name in data.sample_ids])
    assert set(videos.retrieval().media) == {name for name in features if not name.startswith("test")}


@pytest.mark.parametrize("pooling", [MeanPooling(), TextPooling(temperature=2.0)], ids=["mean", "text"])
def test_search_finds_whole_videos_as_the_method_pools_them(videos: FeatureStore, pooling: Pooling):
    query = F.normalize(build_encoder(videos.manifest.recipe.encoder).encode_text(["a red car"]), dim=-1)[0].numpy()
    frames: dict[str, list[np.ndarray]] = {}
    for name, vector, _ in every_row(videos, "image"):
        frames.setdefault(name.rpartition("/")[0], []).append(vector)
    scale, scores = videos.space.logit_scale, {}
    for name, own in frames.items():
        weights = np.exp([scale * vector @ query / getattr(pooling, "temperature", np.inf) for vector in own])
        mean = weights @ np.stack(own)
        scores[name] = float(mean @ query / np.linalg.norm(mean))
    with retrieval_model(ZeroShotRetrievalConfig(pooling=pooling), videos.space) as model:
        found = Searcher(videos, model).images("a red car", top=5)
    assert [row.sample_id for row in found] == sorted(scores, key=lambda name: -scores[name])[:5]
    np.testing.assert_allclose([row.score for row in found], sorted(scores.values())[:-6:-1], atol=1e-6)
    assert [row.content for row in found] == [f"{row.sample_id}.mp4" for row in found]


@pytest.mark.parametrize("top", [1, 7, 100])
def test_search_finds_what_a_look_at_every_row_finds(store: FeatureStore, top: int):
    query = F.normalize(build_encoder(store.manifest.recipe.encoder).encode_text(["a red car"]), dim=-1)[0].numpy()
    slow = sorted(((float(vector @ query), name) for name, vector, _ in every_row(store, "image")), reverse=True)[:top]
    found = search_images(store, "a red car", top=top)
    assert [row.sample_id for row in found] == [name for _, name in slow]
    np.testing.assert_allclose([row.score for row in found], [score for score, _ in slow], atol=1e-6)
    assert all(row.content == f"{row.sample_id}.png" for row in found)
    assert len(found) == min(top, 27)


def test_an_image_finds_captions(store: FeatureStore, tmp_path: Path):
    recipe, picture = store.manifest.recipe, Image.new("RGB", (40, 30), "red")
    picture.save(tmp_path / "red.png")
    pixels = build_preprocess(recipe.encoder, recipe.image)(picture)[None]
    query = F.normalize(build_encoder(recipe.encoder).encode_image(pixels), dim=-1)[0].numpy()
    slow = sorted(
        ((float(vector @ query), name, text) for name, vector, text in every_row(store, "text")), reverse=True
    )
    found = search_captions(store, tmp_path / "red.png", top=4)
    assert [(row.sample_id, row.content) for row in found] == [(name, text) for _, name, text in slow[:4]]


def test_recall_is_that_of_the_features_of_one_split(store: FeatureStore):
    report, images = measure_recall(store.root, "validation")
    data = store.captioned("validation")
    scores = torch.from_numpy(data.text.astype(np.float64) @ data.image.T.astype(np.float64))
    own = scores.gather(1, torch.from_numpy(data.image_of_text)[:, None])
    hits = ((scores >= own - 1e-12).sum(dim=1) == 1).double().mean().item()
    assert images == 6
    assert report.text_to_image.recall[1].estimate == pytest.approx(100 * hits)


def test_a_store_of_classes_says_that_it_has_no_captions(classes: FeatureStore, tmp_path: Path):
    with pytest.raises(DataError, match="no captions in its validation split"):
        classes.captioned("validation")
    with pytest.raises(DataError, match="no captions to search"):
        search_captions(classes, tmp_path / "red.png", top=1)


def test_the_commands_print_a_row_each(store: FeatureStore, tmp_path: Path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    run = CliRunner().invoke
    images = run(cli, ["search", store.root, "a red car", "--top", "3"], catch_exceptions=False).output.splitlines()
    assert [line.split("  ")[1] for line in images] == [row.content for row in search_images(store, "a red car", top=3)]
    captions = run(cli, ["search", store.root, str(tmp_path / "red.png")], catch_exceptions=False).output.splitlines()
    assert {line.split("  ")[1] for line in captions} <= {"one", "two", "three"}
    table = run(cli, ["recall", store.root, "--split", "validation"], catch_exceptions=False).output.splitlines()
    assert table[0].startswith("6 images, 9 captions, validation split, zero-shot")
    assert [line.split("  ")[0] for line in table[2:]] == ["text to image", "image to text"]
