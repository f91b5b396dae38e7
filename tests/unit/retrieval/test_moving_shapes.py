"""The videos of moving shapes and the small model for them: what a frame shows, what a caption tells, what can be entered."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest

from benchmarks.make_moving_shapes import COLOURS, EVENT, FRAMES, Event, events, make_videos, render
from benchmarks.pretrain_small_clip import CONTEXT, configuration, make_tokenizer, stills
from xmadapter.config import CrossModalConfig
from xmadapter.config.data import VideoData, VideoTable
from xmadapter.data import read_index
from xmadapter.encoder_adapters import attach, check_resumable


def near(frame: np.ndarray, colour: str) -> np.ndarray:
    """Where a picture has a colour."""
    return np.abs(frame.astype(int) - COLOURS[colour]).max(axis=2) < 10


@pytest.mark.parametrize(("path", "axis"), [("along the top", 1), ("down the right", 0)])
def test_the_shape_crosses_the_picture_and_changes_its_colour_while_the_event_lasts(path: str, axis: int):
    frames = [np.asarray(frame) for frame in render(Event("circle", "red", "white", path), np.random.default_rng(0))]
    before, after = ([near(frame, colour) for frame in frames] for colour in ("red", "white"))
    shown = [number for number in range(FRAMES) if before[number].sum() > 50]
    later = [number for number in range(FRAMES) if after[number].sum() > 50]
    assert [*shown, *later] == list(range(shown[0], shown[0] + EVENT))
    centres = np.array([np.argwhere(before[n] | after[n]).mean(axis=0) for n in (*shown, *later)]) / frames[0].shape[0]
    assert (np.diff(centres[:, axis]) > 0.1).all()
    assert np.ptp(centres[:, 1 - axis]) < 0.02
    assert (centres[0, 1 - axis] < 0.3) == (path == "along the top")


def test_the_videos_of_a_seed_are_read_and_every_caption_stands_once(tmp_path: Path):
    assert make_videos(tmp_path / "one", 7, seed=5) == {"train": 4, "val": 1, "test": 2}
    make_videos(tmp_path / "two", 7, seed=5)
    rows = json.loads((tmp_path / "one" / "captions.json").read_bytes())
    assert rows == json.loads((tmp_path / "two" / "captions.json").read_bytes())
    assert len({row["caption"] for row in rows}) == 7
    lists = VideoTable(path=str(tmp_path / "one" / "captions.json"))
    index = read_index(VideoData(root=str(tmp_path / "one" / "videos"), lists=lists, frames=4))
    assert index.table.num_rows == 7 * 4


def test_the_tokenizer_knows_every_word_of_either_kind_of_caption():
    tokenizer, captions = make_tokenizer(), [*stills(), *(event.caption for event in events())]
    assert len(captions) == len(set(captions)) == 432 + 1008
    ids = tokenizer(captions, padding="max_length", max_length=CONTEXT).input_ids
    assert {len(row) for row in ids} == {CONTEXT}
    assert all(tokenizer.unk_token_id not in row and max(row) == len(tokenizer) - 1 for row in ids)


def test_both_towers_of_the_small_model_can_be_entered_and_resumed(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(configuration(len(tokenizer))))
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    assert sum(one.numel() for one in model.parameters()) < 1_000_000
    bank = attach(model, CrossModalConfig(first_block=2, shared=64), seed=1)
    assert bank.first_blocks == {"image": 2, "text": 2}
    for tower in ("image", "text"):
        check_resumable(model, tower)
