"""Captioned videos: four forms of lists, names that lead to files, and rows for frames."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.contracts.reader import CaptionReaderContract
from tests.unit.data.video_folders import (
    TABLE,
    video_config,
    write_activitynet,
    write_didemo,
    write_msrvtt,
    write_table,
)
from xmadapter.config.data import VideoData
from xmadapter.data import BadImage, SampleIndex, parse_media_uri, read_index, read_media
from xmadapter.data.video_reader import read_video
from xmadapter.errors import ConfigError, DataError


class TestTable(CaptionReaderContract):
    @pytest.fixture
    def index(self, tmp_path: Path) -> SampleIndex:
        return read_index(write_table(tmp_path / "one"))

    @pytest.fixture
    def shuffled(self, tmp_path: Path) -> SampleIndex:
        return read_index(write_table(tmp_path / "two", [TABLE[at] for at in (4, 0, 3, 2, 1)]))

    @pytest.fixture
    def read_missing(self, tmp_path: Path) -> Callable[[], SampleIndex]:
        config = write_table(tmp_path / "one")
        return partial(read_video, config.model_copy(update={"root": str(tmp_path / "absent")}))

    @pytest.fixture
    def read_truncated(self, tmp_path: Path) -> Callable[[], SampleIndex]:
        config = write_table(tmp_path / "one")
        path = tmp_path / "one" / "list.csv"
        path.write_bytes(path.read_bytes()[:-5])
        return partial(read_video, config)


def captions_of(index: SampleIndex) -> dict[str, list[str]]:
    rows = zip(index.table["sample_id"].to_pylist(), index.table["captions"].to_pylist(), strict=True)
    return {name: captions for name, captions in rows if captions}


def test_a_video_is_a_row_for_each_frame_and_its_captions_stand_once(tmp_path: Path) -> None:
    index = read_video(write_table(tmp_path))
    assert index.select("train").table["sample_id"].to_pylist() == ["a/000", "a/001", "b/000", "b/001"]
    assert captions_of(index) == {
        "a/000": ["One.", "One again."],
        "b/000": ["Two."],
        "c/000": ["Three."],
        "d/000": ["Four, with a comma."],
    }
    assert index.caption_counts() == {"train": (4, 3), "validation": (2, 1), "test": (2, 1)}


def test_media_are_frames_of_the_video(tmp_path: Path) -> None:
    media = read_video(write_table(tmp_path)).table["media"].to_pylist()
    assert [parse_media_uri(uri).part for uri in media[:2]] == [(0, 2), (1, 2)]
    assert media[1].endswith("/videos/a#frame=1&of=2")
    assert read_media(media[1]) == (tmp_path / "videos" / "a" / "2.png").read_bytes()


def test_json_says_the_same_as_csv(tmp_path: Path) -> None:
    config = write_table(tmp_path)
    records = [
        {"video": "a", "caption": ["One.", "One again."], "split": "train"},
        *({"video": video, "caption": caption, "split": split} for video, caption, split in TABLE if video != "a"),
    ]
    (tmp_path / "list.json").write_text(json.dumps(records))
    listed = video_config(tmp_path / "videos", {"kind": "table", "path": f"{tmp_path}/list.json"})
    assert read_video(listed) == read_video(config)


def test_msrvtt_trains_on_all_captions_and_tests_on_one(tmp_path: Path) -> None:
    index = read_index(write_msrvtt(tmp_path))
    assert index.caption_counts() == {"train": (6, 6), "validation": (2, 2), "test": (2, 1)}
    assert captions_of(index.select("test")) == {"video4/000": ["the one sentence"]}


def test_what_is_held_out_follows_from_the_names_alone(tmp_path: Path) -> None:
    first = read_video(write_msrvtt(tmp_path))
    path = tmp_path / "MSRVTT_train.9k.csv"
    path.write_text("\n".join(["video_id", "video3", "video1", "video2", "video0"]))
    assert read_video(write_msrvtt(tmp_path)) == first
    (tmp_path / "MSRVTT_train.7k.csv").write_text("video_id\nvideo0\nvideo1\nvideo2\n")
    fewer = video_config(tmp_path / "videos", {"kind": "msrvtt", "path": str(tmp_path), "train": "7k"})
    assert read_video(fewer).caption_counts()["train"] == (4, 4)


def test_holding_out_all_of_train_is_refused(tmp_path: Path) -> None:
    config = write_msrvtt(tmp_path).model_copy(update={"held_out": 4})
    with pytest.raises(DataError, match="`held_out` takes 4 of 4 training videos for validation; lower it"):
        read_video(config)


def test_a_training_video_in_the_test_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test\.csv: line 2: 'video3' \(test\) is the file of 'video3' .*line 5"):
        read_video(write_msrvtt(tmp_path, test="video3"))


def test_didemo_joins_the_moments_of_a_video(tmp_path: Path) -> None:
    index = read_index(write_didemo(tmp_path))
    assert captions_of(index) == {
        name: ["first moment second moment"] for name in ("x.mov/000", "y@N02_1.mov/000", "z.avi/000")
    }


def test_activitynet_tests_on_val1_by_paragraphs(tmp_path: Path) -> None:
    index = read_index(write_activitynet(tmp_path))
    assert captions_of(index.select("test")) == {"v_three/000": ["v_three. Ends."]}
    assert index.caption_counts() == {"train": (2, 1), "validation": (2, 1), "test": (2, 1)}


@pytest.mark.parametrize("make", [write_msrvtt, write_didemo, write_activitynet])
def test_each_list_is_needed_and_named_when_absent_or_cut(tmp_path: Path, make: Callable[[Path], VideoData]) -> None:
    config = make(tmp_path)
    files = [path for path in sorted(tmp_path.iterdir()) if path.is_file()]
    for path in files:
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(ConfigError, match=rf"{path.name}: no such file .* correct `lists\.path`"):
            read_video(config)
        path.write_bytes(b"\xff" + data)
        with pytest.raises(DataError, match=rf"^[^\n]*{path.name}: [^\n]*$"):
            read_video(config)
        path.write_bytes(data)
    assert len(files) >= 3
    assert read_video(config).table.num_rows


class TestNames:
    """How the name in a list leads to a file."""

    def media(self, folder: Path, name: str, *files: str) -> str:
        """Where the index says that a training video called `name` lies, as a name below the folder."""
        write_table(folder, [(name, "Text.", "train"), *TABLE[3:]])
        for file in files:
            (folder / "videos" / file).touch()
        config = video_config(folder / "videos", {"kind": "table", "path": str(folder / "list.csv")})
        media = read_video(config).select("train").table["media"][0].as_py()
        return str(parse_media_uri(media).path.relative_to(folder / "videos"))

    @pytest.mark.parametrize(
        ("name", "file"),
        [("v7", "v7.webm"), ("v7.mp4", "v7.mp4"), ("v7.mp4", "v7.mkv"), ("v.7", "v.7.MP4"), ("v7.mov", "v7.mov.mp4")],
    )
    def test_an_extension_may_be_left_out_or_differ(self, tmp_path: Path, name: str, file: str) -> None:
        assert self.media(tmp_path, name, file, "other.mp4") == file

    def test_the_name_as_it_stands_comes_first(self, tmp_path: Path) -> None:
        assert self.media(tmp_path, "v7.mp4", "v7.webm", "v7.mp4", "v7.avi") == "v7.mp4"

    def test_two_files_for_one_name_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"line 2: 'v7' can be any of v7\.mp4, v7\.webm; name the file"):
            self.media(tmp_path, "v7", "v7.mp4", "v7.webm")

    def test_two_names_for_one_file_are_refused(self, tmp_path: Path) -> None:
        config = write_table(tmp_path, [("v7", "Text.", "train"), ("v7.mp4", "Text.", "test"), *TABLE])
        (tmp_path / "videos" / "v7.mp4").touch()
        with pytest.raises(DataError, match=r"'v7\.mp4' \(test\) is the file of 'v7' \(train, line 2\); remove one"):
            read_video(config)

    def test_an_absent_video_stays_in_the_index(self, tmp_path: Path) -> None:
        config = write_table(tmp_path, [*TABLE, ("gone", "Text.", "train")])
        media = read_video(config).table["media"][-1].as_py()
        with pytest.raises(BadImage, match="missing"):
            read_media(media)

    def test_no_video_at_all_is_a_wrong_folder(self, tmp_path: Path) -> None:
        config = write_table(tmp_path)
        (tmp_path / "other").mkdir()
        with pytest.raises(ConfigError, match="correct `root`"):
            read_video(config.model_copy(update={"root": str(tmp_path / "other")}))

    @pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "", "."])
    def test_a_name_that_leads_elsewhere_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DataError, match=r"^[^\n]*list\.csv: line 2: [^\n]*$"):
            read_video(write_table(tmp_path, [(name, "Text.", "train"), *TABLE]))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", "One.", "dev")], "line 2 has split 'dev'; known are test, train, val, valid, validation"),
        ([("a", " ", "train")], r"line 2 \('a'\) has no caption"),
        (
            [("a", "One.", "train"), ("a", "Two.", "test")],
            r"'a' is in two splits: line 2 \(train\) and line 3 \(test\)",
        ),
        ([("a", "One.")], "line 2 has more or fewer cells"),
        ([("a", "One.", "train", "x")], "line 2 has more or fewer cells"),
        ([("a", 'x" y', "train")], "not CSV after line 1"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, rows: list[tuple[str, ...]], said: str) -> None:
    with pytest.raises(DataError, match=rf"^[^\n]*list\.csv: {said}[^\n]*$"):
        read_video(write_table(tmp_path, rows))


def test_an_absent_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column caption; its columns are split, text, video"):
        read_video(write_table(tmp_path, heading="video,text,split"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '[{"video": "a"}]', '[{"video": 1, "caption": "x", "split": "test"}]']
)
def test_another_json_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    write_table(tmp_path)
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(DataError, match=r"^[^\n]+$"):
        read_video(video_config(tmp_path / "videos", {"kind": "table", "path": f"{tmp_path}/list.json"}))
