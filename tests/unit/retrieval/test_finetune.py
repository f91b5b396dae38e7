"""A trial of adapters inside an encoder: where it starts, what it scores, how it goes on, and what is left of it."""

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
import torch.nn.functional as F

from tests.unit.retrieval.shapes import as_videos, make_shapes
from xmadapter.config import (
    BiasTuningConfig,
    ContrastiveConfig,
    CrossModalConfig,
    FullTuningConfig,
    HeadsConfig,
    LoraConfig,
    UniAdapterConfig,
    ZeroShotRetrievalConfig,
)
from xmadapter.encoders import build_encoder
from xmadapter.errors import EpisodeError, FingerprintMismatch
from xmadapter.evaluation.retrieval import evaluate_retrieval
from xmadapter.features import RetrievalData
from xmadapter.retrieval import (
    FinetuneTrial,
    RetrievalTest,
    final_retrieval,
    mean_recall,
    ranks_table,
    retrieval_model,
    run_finetune,
    states,
)
from xmadapter.retrieval.sides import all_rows
from xmadapter.trial import Pruned

FIT = ContrastiveConfig(epochs=4, batch_size=4, learning_rate=0.01)
KINDS = [
    HeadsConfig(fit=FIT),
    CrossModalConfig(fit=FIT),
    CrossModalConfig(fit=FIT, towers="text", shared=0, first_block=1),
    UniAdapterConfig(fit=FIT, width=16, towers="image"),
    HeadsConfig(fit=FIT, over=LoraConfig()),
    BiasTuningConfig(fit=FIT),
    FullTuningConfig(fit=FIT, towers="text"),
]
IDS = ["heads", "cross-modal", "cross-modal-text-1", "uniadapter-image", "heads-over-lora", "bias", "full-text"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[RetrievalData, RetrievalTest]:
    return make_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def data(shapes: tuple[RetrievalData, RetrievalTest]) -> RetrievalData:
    return shapes[0]


def make_trial(config, **changes) -> FinetuneTrial:
    values = {"method": "made up", "adapter": config, "images": 8, "seeds": (1, 2), "state": "study-draw"}
    return FinetuneTrial.model_validate(values | changes)


def test_zero_shot_is_the_recall_of_the_stored_features(data):
    found = run_finetune(data, make_trial(ZeroShotRetrievalConfig()))
    part = data.validation
    slow = evaluate_retrieval(*map(torch.from_numpy, (part.text, part.image, part.image_of_text)))
    assert found.validation == (slow, slow)
    assert found.score == pytest.approx(slow.recall_sum / 600)
    assert found.trained_parameters == 0


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_a_method_starts_with_the_stored_features(data, config):
    with retrieval_model(config, data.space, seed=3) as model, torch.no_grad():
        sides = model.sides(data.validation, data.media)
        text, image = all_rows(sides.text, 12), all_rows(sides.image, 8)
    np.testing.assert_allclose(F.normalize(text, dim=-1), data.validation.text, atol=2e-5)
    np.testing.assert_allclose(F.normalize(image, dim=-1), data.validation.image, atol=2e-5)


@pytest.mark.parametrize("config", KINDS, ids=IDS)
def test_training_changes_the_score_and_leaves_the_encoder_as_it_was(data, config):
    texts = list(data.validation.texts)
    before = build_encoder(data.space.encoder).encode_text(texts)
    found = run_finetune(data, make_trial(config, seeds=(1,)))
    with retrieval_model(config, data.space) as model:
        untrained = all_rows(model.sides(data.validation, data.media).text, 12)
        assert found.trained_parameters == model.trained_parameters > 0
    torch.testing.assert_close(F.normalize(untrained, dim=-1), F.normalize(before, dim=-1), atol=2e-5, rtol=0)
    assert found.score == pytest.approx(mean_recall(found.validation[0]))
    again = run_finetune(data, make_trial(config, seeds=(1,)))
    assert again.validation == found.validation


def test_training_from_cached_tokens_gives_the_numbers_of_whole_towers(data, tmp_path, monkeypatch):
    monkeypatch.setenv("XMADAPTER_CACHE", str(tmp_path))
    trial = make_trial(CrossModalConfig(fit=FIT, first_block=1), seeds=(1,))
    whole = losses_of(data, trial, monkeypatch)
    monkeypatch.setattr("xmadapter.retrieval.model.WORTH_A_FILE", 1)
    np.testing.assert_allclose(losses_of(data, trial, monkeypatch), whole, rtol=1e-5)
    files = sorted((tmp_path / "tokens").iterdir())
    assert len(files) == 2 * 2  # two towers, two splits
    before = [file.stat().st_mtime_ns for file in files]
    monkeypatch.setattr("xmadapter.retrieval.sides.read_media", lambda _: pytest.fail("pixels were read again"))
    np.testing.assert_allclose(losses_of(data, trial, monkeypatch), whole, rtol=1e-5)
    files[0].write_bytes(files[0].read_bytes()[:-50])
    monkeypatch.undo()
    monkeypatch.setenv("XMADAPTER_CACHE", str(tmp_path))
    monkeypatch.setattr("xmadapter.retrieval.model.WORTH_A_FILE", 1)
    np.testing.assert_allclose(losses_of(data, trial, monkeypatch), whole, rtol=1e-5)
    after = [file.stat().st_mtime_ns for file in files]
    assert [number for number in range(4) if before[number] != after[number]] == [
        0
    ]  # the damaged one alone is made again


def test_checkpointing_changes_no_loss_and_is_switched_off_afterwards(data, monkeypatch):
    plain = make_trial(CrossModalConfig(fit=FIT), seeds=(1,))
    again = make_trial(CrossModalConfig(fit=FIT.model_copy(update={"checkpointing": True})), seeds=(1,))
    calls = []
    monkeypatch.setattr("torch.utils.checkpoint.checkpoint", lambda run, *args, **_: (calls.append(1), run(*args))[1])
    monkeypatch.setattr("open_clip.transformer.checkpoint", lambda run, *args, **_: (calls.append(1), run(*args))[1])
    np.testing.assert_allclose(losses_of(data, again, monkeypatch), whole := losses_of(data, plain, monkeypatch))
    assert calls
    before = len(calls)
    np.testing.assert_array_equal(losses_of(data, plain, monkeypatch), whole)
    assert len(calls) == before


def losses_of(data, trial, monkeypatch):
    """Losses of a trial's epochs."""
    found, note = [], states.StateFile.note
    with monkeypatch.context() as patch:
        patch.setattr(states.StateFile, "note", lambda self, epoch, state: found.append(epoch.loss))
        run_finetune(data, trial.model_copy(update={"states": "nowhere"}))
    assert note is states.StateFile.note
    assert len(found) == FIT.epochs
    return found


@pytest.mark.parametrize("lost_after", [1, 3])
def test_a_lost_trial_goes_on_and_ends_where_it_would_have_ended(data, tmp_path, monkeypatch, lost_after):
    monkeypatch.setattr(states, "_EVERY_S", 0.0)
    whole = run_finetune(data, make_trial(KINDS[1], states=str(tmp_path / "whole")))
    write = states.StateFile.note

    def lose(self, epoch, state):
        write(self, epoch, state)
        if epoch.epoch == lost_after:
            raise KeyboardInterrupt

    trial = make_trial(KINDS[1], states=str(tmp_path / "lost"))
    monkeypatch.setattr(states.StateFile, "note", lose)
    with pytest.raises(KeyboardInterrupt):
        run_finetune(data, trial)
    monkeypatch.setattr(states.StateFile, "note", write)
    epochs = []
    monkeypatch.setattr(states.StateFile, "note", lambda self, one, state: epochs.append(one.epoch))
    assert run_finetune(data, trial).validation == whole.validation
    assert epochs == [*range(lost_after + 1, 5), 1, 2, 3, 4]


def test_a_finished_training_is_loaded_and_not_run_again(data, tmp_path, monkeypatch):
    trial = make_trial(KINDS[1], states=str(tmp_path))
    first = run_finetune(data, trial)
    monkeypatch.setattr("xmadapter.training.contrastive._step", lambda *_: pytest.fail("trained again"))
    assert run_finetune(data, trial).validation == first.validation
    tensors = sorted(path.stat().st_size for path in tmp_path.iterdir())
    assert tensors[-1] < 6 * first.stored_bytes + 10_000  # weights, no moments; names and padding beside them


def test_a_damaged_state_is_left_aside(data, tmp_path):
    trial = make_trial(KINDS[0], seeds=(1,), states=str(tmp_path))
    first = run_finetune(data, trial)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    assert run_finetune(data, trial).validation == first.validation


def test_a_trial_that_misses_a_rung_is_stopped_and_says_what_it_had(data):
    with pytest.raises(Pruned) as stopped:
        run_finetune(data, make_trial(KINDS[0], rungs=((2, 2.0),)))
    assert list(stopped.value.rungs) == [2]
    passed = run_finetune(data, make_trial(KINDS[0], rungs=((2, 0.0),)))
    assert passed.rungs == stopped.value.rungs


def test_videos_are_the_mean_of_their_frames_through_an_adapted_tower_too(data):
    videos, media = as_videos(data.validation, data.media)
    with retrieval_model(CrossModalConfig(fit=FIT), data.space) as model:
        found = all_rows(model.sides(videos, media).image, 3)
    np.testing.assert_allclose(F.normalize(found, dim=-1), videos.image, atol=2e-5)
    some = videos.take(np.array([2, 0]))
    assert some.frames == (videos.frames[2], videos.frames[0])
    assert some.sample_ids == (*videos.frames[2], *videos.frames[0])
    np.testing.assert_array_equal(some.frame, videos.frame[[4, 5, 6, 7, 0, 1]])
    assert some.texts == (videos.texts[0], videos.texts[2])


def test_draws_are_nested_and_too_few_images_are_told(data):
    small, large = data.drawn(3, seed=1), data.drawn(6, seed=1)
    assert set(small.image_ids) < set(large.image_ids) < set(data.train.image_ids)
    assert data.drawn(3, seed=2).image_ids != small.image_ids
    assert data.drawn(8, seed=1) is data.train
    for part in (small, large):
        place = {name: row for row, name in enumerate(data.train.image_ids)}
        for text, feature, owner in zip(part.texts, part.text, part.image_of_text, strict=True):
            row = data.train.texts.index(text)
            assert data.train.image_of_text[row] == place[part.image_ids[owner]]
            np.testing.assert_array_equal(feature, data.train.text[row])
    with pytest.raises(EpisodeError, match="9 training images are asked for, the store has 8"):
        data.drawn(9, seed=1)


def test_the_final_test_ranks_the_test_split_and_compares_with_zero_shot(shapes):
    data, test = shapes
    choices = [run_finetune(data, make_trial(config)) for config in (ZeroShotRetrievalConfig(), KINDS[0])]
    (zero, zero_ranks), (heads, _) = final_retrieval(data, test, [(choice, None) for choice in choices])
    slow = evaluate_retrieval(*map(torch.from_numpy, (test.data.text, test.data.image, test.data.image_of_text)))
    assert zero.test == (slow, slow)
    assert zero.difference is None
    assert heads.difference is not None
    assert heads.difference.low <= heads.difference.estimate <= heads.difference.high
    assert (zero.images, zero.texts) == (8, 12)
    table = ranks_table(test, zero, zero_ranks)
    assert table.num_rows == 2 * (8 + 12)
    first = table.filter((pc.field("direction") == "text_to_image") & (pc.field("seed") == 1))["rank"].to_numpy()
    assert 100 * np.mean(first <= 5) == pytest.approx(slow.text_to_image.recall[5].estimate)


def test_test_images_among_those_tuned_on_are_refused(data):
    with pytest.raises(FingerprintMismatch, match="among those tuned on"):
        next(final_retrieval(data, RetrievalTest(data.validation, data.media), []))
