"""Videos as each text weights their frames: in ranks, in training, in a bundle and in a search."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.factories import make_store
from tests.reference import slow_retrieval as slow
from tests.unit.retrieval.shapes import as_videos, make_shapes
from xmadapter.config import (
    ContrastiveConfig,
    CrossModalConfig,
    FinetuneConfig,
    HeadsConfig,
    MeanPooling,
    TextPooling,
    ZeroShotRetrievalConfig,
)
from xmadapter.features import CaptionedImages, RetrievalData
from xmadapter.retrieval import (
    FinetuneTrial,
    RetrievalTest,
    all_rows,
    export_retrieval,
    final_retrieval,
    load_retrieval_bundle,
    retrieval_model,
    run_finetune,
    states,
)

TEXT = TextPooling(temperature=0.5)
FIT = ContrastiveConfig(epochs=6, batch_size=3, learning_rate=0.02, warm_up=0.0)
ADAPTERS = CrossModalConfig(fit=FIT, pooling=TEXT)
TRAINED = [HeadsConfig(fit=FIT, pooling=TEXT), ADAPTERS]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> RetrievalData:
    return make_shapes(tmp_path_factory.mktemp("shapes"))[0]


@pytest.fixture(scope="module")
def videos(images: RetrievalData) -> RetrievalData:
    (train, media), (validation, others) = (as_videos(part, images.media) for part in (images.train, images.validation))
    rename = {name: f"validation-{name}" for name in others}
    frames = tuple(tuple(rename[name] for name in video) for video in validation.frames)
    validation = replace(validation, image_ids=("v0", "v1", "v2"), frames=frames)
    return replace(
        images,
        train=train,
        validation=validation,
        media=media | {rename[name]: place for name, place in others.items()},
    )


def scores_of(data: RetrievalData, part: CaptionedImages, config) -> torch.Tensor:
    with retrieval_model(config, data.space) as model, torch.no_grad():
        sides = model.sides(part, data.media)
        text = all_rows(sides.text, len(part.texts))
        return sides.scores(text)(torch.arange(len(part.texts)))


def slow_scores(data: RetrievalData, part: CaptionedImages, temperature: float) -> torch.Tensor:
    """Text by text and video by video, as the documentation says."""
    starts = np.cumsum([0, *map(len, part.frames)])
    queries = (data.space.logit_scale * part.text).tolist()
    videos = [part.frame[start:end].tolist() for start, end in pairwise(starts)]
    return torch.tensor(
        [[slow.text_conditioned(text, video, temperature=temperature) for video in videos] for text in queries]
    )


def make_trial(config, **changes) -> FinetuneTrial:
    values = {"method": "made up", "adapter": config, "images": 3, "seeds": (1,), "state": "study-draw"}
    return FinetuneTrial.model_validate(values | changes)


@pytest.mark.parametrize("temperature", [0.2, 5.0])
def test_scores_and_ranks_are_those_of_a_loop_over_texts_and_videos(videos, temperature):
    part, pooling = videos.validation, TextPooling(temperature=temperature)
    found = scores_of(videos, part, ZeroShotRetrievalConfig(pooling=pooling))
    expected = slow_scores(videos, part, temperature)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    with retrieval_model(ZeroShotRetrievalConfig(pooling=pooling), videos.space) as model:
        ranks = model.ranks(part, videos.media).text_to_image
    own = expected.gather(1, torch.from_numpy(part.image_of_text)[:, None])
    assert ranks.tolist() == (expected >= own).sum(dim=1).tolist()


def test_a_block_of_texts_gives_what_all_at_once_give(videos, monkeypatch):
    config = ZeroShotRetrievalConfig(pooling=TEXT)
    whole = scores_of(videos, videos.validation, config)
    monkeypatch.setattr("xmadapter.retrieval.frames._WEIGHTS_AT_ONCE", 1)
    assert torch.equal(scores_of(videos, videos.validation, config), whole)


@pytest.mark.parametrize("config", [ZeroShotRetrievalConfig(), CrossModalConfig()], ids=["stored", "tower"])
def test_one_frame_and_still_images_score_their_cosine(images, config):
    part = images.validation
    single = replace(part, frames=tuple((name,) for name in part.image_ids), frame=part.image)
    weighted = config.model_copy(update={"pooling": TEXT})
    expected = torch.from_numpy(part.text @ part.image.T)
    for data in (single, part):
        torch.testing.assert_close(scores_of(images, data, weighted), expected, atol=2e-5, rtol=0)


def test_the_order_of_frames_and_the_length_of_other_videos_change_nothing(videos):
    part, config = videos.validation, ZeroShotRetrievalConfig(pooling=TEXT)
    whole = scores_of(videos, part, config)
    turned = replace(part, frame=part.frame[[1, 0, 3, 2, 6, 7, 5, 4]])
    torch.testing.assert_close(scores_of(videos, turned, config), whole, atol=1e-6, rtol=0)
    # Without the video of four frames nothing is padded.
    short = scores_of(videos, part.take(np.array([0, 1])), config)
    torch.testing.assert_close(short, whole[:2, :2], atol=1e-6, rtol=0)


def test_a_large_temperature_gives_the_mean_of_the_frames(videos):
    part = videos.validation
    mean = scores_of(videos, part, ZeroShotRetrievalConfig())
    torch.testing.assert_close(mean, torch.from_numpy(part.text @ part.image.T), atol=1e-6, rtol=0)
    gaps = [
        (scores_of(videos, part, ZeroShotRetrievalConfig(pooling=TextPooling(temperature=one))) - mean).abs().max()
        for one in (0.1, 5.0, 1e7)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-6


def test_videos_that_collapsed_to_a_point_get_nothing(videos):
    part = videos.validation
    same = replace(part, frame=np.repeat(part.frame[:1], 8, axis=0))
    with retrieval_model(ZeroShotRetrievalConfig(pooling=TEXT), videos.space) as model:
        assert model.ranks(same, videos.media).text_to_image.tolist() == [3, 3, 3]


@pytest.mark.parametrize("config", TRAINED, ids=["heads", "cross-modal"])
def test_training_starts_at_the_frozen_scores_and_lowers_the_loss(videos, config, monkeypatch):
    torch.testing.assert_close(
        scores_of(videos, videos.validation, config), slow_scores(videos, videos.validation, 0.5), atol=5e-5, rtol=0
    )
    losses = []
    monkeypatch.setattr(states.StateFile, "note", lambda self, epoch, state: losses.append(epoch.loss))
    found = run_finetune(videos, make_trial(config, states="nowhere"))
    assert len(losses) == FIT.epochs
    assert losses[-1] < losses[0]
    assert found.adapter.pooling == TEXT


def test_a_bundle_scores_what_was_trained(videos, tmp_path):
    choice = run_finetune(videos, make_trial(TRAINED[0]))
    manifest = make_store(tmp_path / "features").manifest
    options = {"seed": 1, "features": "nowhere", "test": None, "states": None}
    path = export_retrieval(videos, manifest, choice, output=str(tmp_path / "bundle"), **options)
    bundle, part = load_retrieval_bundle(str(path)), videos.validation
    assert bundle.card.adapter.pooling == TEXT
    with bundle.model() as model:
        sides = model.sides(part, videos.media)
        text, frame = all_rows(sides.text, 3), F.normalize(all_rows(sides.frame, 8), dim=-1)
        found = sides.scores(text)(torch.arange(3))
    headed = replace(part, text=F.normalize(text, dim=-1).numpy(), frame=frame.numpy())
    torch.testing.assert_close(found, slow_scores(videos, headed, 0.5), atol=1e-5, rtol=0)


def test_videos_without_texts_ask_no_tokenizer(videos, monkeypatch):
    part = replace(videos.validation, text=videos.validation.text[:0], texts=(), image_of_text=np.zeros(0, np.int64))
    query = torch.from_numpy(videos.validation.text)
    monkeypatch.setattr("xmadapter.encoders.open_clip.OpenClipEncoder.tokenize", lambda *_: pytest.fail("asked"))
    with retrieval_model(ADAPTERS, videos.space) as model:
        found = model.sides(part, videos.media).scores(query)(torch.arange(3))
    torch.testing.assert_close(found, slow_scores(videos, videos.validation, 0.5), atol=5e-5, rtol=0)


def test_either_pooling_of_zero_shot_stands_in_one_final_test(videos):
    part = replace(videos.validation, image_ids=("t0", "t1", "t2"))
    configs = [ZeroShotRetrievalConfig(), ZeroShotRetrievalConfig(pooling=TEXT)]
    choices = [(run_finetune(videos, make_trial(config)), None) for config in configs]
    (mean, _), (text, _) = final_retrieval(videos, RetrievalTest(part, videos.media), choices)
    assert mean.difference is None
    assert text.difference is not None


def test_poolings_in_one_sweep_need_names_and_a_draw_may_vary_the_temperature():
    zero_shot = {"adapter": {"kind": "zero-shot"}}
    weighted = {"adapter": {"kind": "zero-shot", "pooling": {"kind": "text"}}}
    fields = {"features": "a", "output": "b", "experiment": "c"}
    with pytest.raises(ValueError, match="two methods are called 'Zero-shot'"):
        FinetuneConfig.model_validate({**fields, "methods": [zero_shot, weighted]})
    drawn = {**weighted, "name": "by text", "space": {"pooling.temperature": {"choices": [1.0, 5.0]}}}
    config = FinetuneConfig.model_validate({**fields, "methods": [zero_shot, drawn]})
    assert config.methods[0].adapter.pooling == MeanPooling()
    assert config.methods[1].as_configured == {"pooling.temperature": 5.0}
    with pytest.raises(ValueError, match=r"pooling\.mean\.temperature"):
        FinetuneConfig.model_validate({**fields, "methods": [zero_shot | {"space": drawn["space"]}]})
    over = {"kind": "heads", "over": {"kind": "lora", "pooling": {"kind": "text"}}}
    with pytest.raises(ValueError, match="set `pooling` of the heads, not of `over`"):
        FinetuneConfig.model_validate({**fields, "methods": [{"adapter": over}]})
