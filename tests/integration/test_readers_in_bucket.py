"""Every reader out of a bucket: the samples, the names and the bytes that it reads on a disk, and its errors as good."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.factories import tree
from tests.integration.services import GOOGLE_CONDITION, Bucket, server, use
from tests.unit.data import (
    arrow_folders,
    idx_files,
    karpathy_files,
    tars,
    test_coop,
    test_few_shot_lists,
    test_imagenet,
    video_folders,
)
from tests.unit.data.makers import class_files, fill
from xmadapter import storage
from xmadapter.config.data import (
    CoopData,
    CsvData,
    DataConfig,
    HuggingFaceData,
    KarpathyData,
    VideoData,
    WebDatasetData,
)
from xmadapter.data import BadImage, SampleIndex, read_few_shot_lists, read_index, read_media
from xmadapter.errors import ConfigError, DataError, RetryLater

_Config = TypeVar("_Config", bound=DataConfig)


def unsplit_rows(folder: Path) -> HuggingFaceData:
    arrow_folders.write_split(folder, arrow_folders.rows("all", 20))
    return HuggingFaceData(root=str(folder))


def numbered_pets(folder: Path) -> WebDatasetData:
    config = tars.write_pets(folder)
    (folder / "names.txt").write_text("cat\ndog\n")
    return tars.changed(config, classes=f"{folder}/names.txt")


def imagenet_v2(folder: Path) -> CoopData:
    return test_imagenet.make(folder, class_files("0", "2", "3", count=2), dataset="imagenet_v2")


DATA: dict[str, Callable[[Path], DataConfig]] = {
    "webdataset": tars.write_pets,
    "webdataset with listed classes": numbered_pets,
    "karpathy": karpathy_files.write_coco,
    "idx": idx_files.write,
    "idx, not compressed": lambda folder: idx_files.write(folder, compressed=False),
    "huggingface": arrow_folders.write,
    "huggingface without splits": unsplit_rows,
    "coop split file": lambda folder: test_coop.make(folder, test_coop.pets_split()),
    "coop aircraft": test_coop.write_aircraft,
    "coop imagenet": test_imagenet.make,
    "coop imagenet-v2": imagenet_v2,
    "video table": video_folders.write_table,
    "video msrvtt": video_folders.write_msrvtt,
    "video didemo": video_folders.write_didemo,
    "video activitynet": video_folders.write_activitynet,
}
ONE_OF_EACH = ("webdataset", "karpathy", "idx", "huggingface", "coop split file", "coop imagenet", "video table")


def moved(config: _Config, folder: Path, root: str) -> _Config:
    """The same config, of the data set in a bucket."""
    return type(config).model_validate_json(config.model_dump_json().replace(str(folder), root))


def upload(folder: Path, root: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: storage.write_bytes(f"{root}/{item[0]}", item[1]), tree(folder).items()))


def in_bucket(make: Callable[[Path], _Config], folder: Path, root: str) -> tuple[_Config, _Config]:
    """Write a data set on the disk and copy it; returns the configs of both."""
    config = make(folder)
    upload(folder, root)
    return config, moved(config, folder, root)


def assert_same(there: SampleIndex, here: SampleIndex) -> None:
    """All but the places is equal, and so are the bytes there."""
    assert there.class_names == here.class_names
    assert there.table.drop_columns(["media"]).equals(here.table.drop_columns(["media"]))
    places = zip(there.table["media"].to_pylist(), here.table["media"].to_pylist(), strict=True)
    read = [(storage.is_remote(remote), read_media(remote) == read_media(local)) for remote, local in places]
    assert read == [(True, True)] * here.table.num_rows != []


@pytest.mark.parametrize("make", DATA.values(), ids=DATA)
def test_a_data_set_in_a_bucket_is_the_one_on_the_disk(s3: str, tmp_path: Path, make: Callable[[Path], DataConfig]):
    here, there = in_bucket(make, tmp_path / "data", s3)
    assert_same(read_index(there), read_index(here))


def test_frames_are_decoded_from_a_video_that_is_fetched_once(
    s3: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    def make(folder: Path) -> VideoData:
        from tests.unit.data.test_video import write_video  # skips without PyAV

        config = video_folders.write_table(folder)
        write_video(folder / "videos" / "e.mp4")
        with (folder / "list.csv").open("a") as file:
            file.write("e,Five.,test\n")
        return config.model_copy(update={"frames": 4})

    here, there = in_bucket(make, tmp_path / "data", s3)
    assert_same(read_index(there), read_index(here))
    assert sum("GET" in line and "e.mp4" in line for line in caplog.messages) == 1


def test_lists_of_few_shots_are_read_out_of_a_bucket(s3: str, tmp_path: Path):
    lists = test_few_shot_lists.content(*test_few_shot_lists.ONE_SHOT)
    storage.write_bytes(f"{s3}/shot_1-seed_1.json", json.dumps(lists).encode())
    (tmp_path / "shot_1-seed_1.json").write_text(json.dumps(lists))
    index = test_few_shot_lists.INDEX
    assert read_few_shot_lists(s3, index) == read_few_shot_lists(str(tmp_path), index) != {}
    with pytest.raises(ConfigError, match=r"^s3://\S+/nothing: no such folder; correct `folder`$"):
        read_few_shot_lists(f"{s3}/nothing", index)


def test_shards_are_read_from_google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with server(Bucket(GOOGLE_CONDITION).answer) as endpoint:
        use(monkeypatch, endpoint)
        here, there = in_bucket(tars.write_pets, tmp_path / "data", "gs://pets")
        # That server lists nothing, and braces need no listing.
        there = tars.changed(there, validation="gs://pets/val_{0,0}.tar")
        assert_same(read_index(there), read_index(here))


def test_a_shard_is_passed_once_and_nothing_of_it_is_kept(s3: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    _, there = in_bucket(tars.write_pets, tmp_path / "data", s3)
    caplog.clear()
    read_index(there)
    asked = [line for line in caplog.messages if "train_1.tar" in line]
    assert len(asked) == 2  # one look at its size, one window
    assert not (tmp_path / "cache").exists()


def test_signs_of_a_pattern_match_within_a_name_as_on_a_disk(s3: str, tmp_path: Path):
    def make(folder: Path) -> WebDatasetData:
        config = tars.write_pets(folder)
        for name in ("deeper/train_9.tar", ".train_8.tar", "train_7.zip"):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"of no use")
        (folder / "test_0.tar").rename(folder / "te{s,t}[0].tar")
        return tars.changed(config, train=f"{folder}/*train_?.tar", test=f"{folder}/te{{s,t}}[0].tar")

    here, there = in_bucket(make, tmp_path / "data", s3)
    assert_same(read_index(there), read_index(here))


NOTHING = {
    "webdataset": "no file matches; correct `validation`",
    "karpathy": "dataset.json: no such file .* correct `path`",
    "idx": "no such folder; correct `root`",
    "huggingface": "no such folder; correct `root`",
    "coop split file": "split_zhou_OxfordPets.json: no such file .* correct `root`",
    "coop imagenet": "classnames.txt: no such file .* correct `root`",
    "video table": "videos: no such folder; correct `root`",
}


@pytest.mark.parametrize("kind", NOTHING)
def test_a_prefix_with_nothing_is_a_mistake_in_the_config(s3: str, tmp_path: Path, kind: str):
    config = moved(DATA[kind](tmp_path / "data"), tmp_path / "data", f"{s3}/nothing")
    with pytest.raises(ConfigError, match=rf"^{s3}/nothing\S*: [^\n]*correct `\w+`$") as caught:
        read_index(config)
    assert caught.match(NOTHING[kind])


ABSENT = {
    "train_1.tar": ("webdataset", ConfigError, r"cannot open the shard \(missing: no such object\); correct `train`"),
    "names.txt": ("webdataset with listed classes", ConfigError, "no such file .* correct `classes`"),
    "train-labels-idx1-ubyte.gz": ("idx", ConfigError, r"no such file, nor with \.gz; correct `root`"),
    "dataset_dict.json": ("huggingface", ConfigError, "neither dataset_dict.json nor state.json .* correct `root`"),
    "test/state.json": ("huggingface", ConfigError, "no such file .* correct `root`"),
    "test/data-00000-of-00001.arrow": ("huggingface", DataError, "missing: no such object; copy"),
    "images_variant_test.txt": ("coop aircraft", ConfigError, "no such file .* correct `root`"),
    "list.csv": ("video table", ConfigError, r"no such file .* correct `lists\.path`"),
    "val_data.json": ("video didemo", ConfigError, r"no such file .* correct `lists\.path`"),
}


@pytest.mark.parametrize("name", ABSENT)
def test_a_file_that_is_not_there_is_named(s3: str, tmp_path: Path, name: str):
    kind, error, said = ABSENT[name]
    _, there = in_bucket(DATA[kind], tmp_path / "data", s3)
    storage.remove(f"{s3}/{name}")
    with pytest.raises(error, match=rf"^{s3}[^\n]*: {said}[^\n]*$"):
        read_index(there)


def test_images_that_are_all_elsewhere_cost_a_listing_and_no_request_each(
    s3: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    records = [karpathy_files.record(number, ("train", "val", "test")[number % 3], captions=1) for number in range(600)]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": records}))
    storage.write_bytes(f"{s3}/images/other.jpg", b"")
    caplog.clear()
    for root, said in (("images", "holds none of the 600 listed images"), ("nothing", "no such folder")):
        with pytest.raises(ConfigError, match=f"^{s3}/{root}: {said}; correct `root`$"):
            read_index(KarpathyData(path=str(tmp_path / "dataset.json"), root=f"{s3}/{root}"))
    assert 2 <= len(caplog.messages) < 60


def test_one_image_far_down_a_list_is_enough(s3: str, tmp_path: Path):
    records = [karpathy_files.record(number, ("train", "val", "test")[number % 3]) for number in range(60)]
    config = karpathy_files.write_coco(tmp_path / "data", records)
    last = f"{records[-1]['filepath']}/{records[-1]['filename']}"
    storage.write_bytes(f"{s3}/{last}", (tmp_path / "data" / last).read_bytes())
    index = read_index(config.model_copy(update={"root": s3}))
    assert index.fingerprint == read_index(config).fingerprint


@pytest.mark.parametrize("name", ["a\nb.png", "a\x01.png"])
def test_a_listed_name_that_no_object_can_have_is_refused_with_its_line(s3: str, tmp_path: Path, name: str):
    (tmp_path / "list.csv").write_text(f'path,label,split\n"{name}",cat,train\n')
    with pytest.raises(DataError, match=rf"^[^\n]*list\.csv: line \d: 'a%0\w[^\n]* is no path below {s3}; correct it$"):
        read_index(CsvData(path=str(tmp_path / "list.csv"), root=s3))


def test_a_folder_of_frames_is_listed_once_for_all_its_frames(
    s3: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    upload(fill(tmp_path / "data", ["v/1.png", "v/2.png", "v/10.png"]), s3)
    caplog.clear()
    frames = [read_media(f"{s3}/v#frame={number}&of=3") for number in range(3)]
    assert frames == [(tmp_path / "data" / "v" / name).read_bytes() for name in ("1.png", "2.png", "10.png")]
    assert len(caplog.messages) == 2 + 3  # one look for a file of that name, one listing


def test_a_shard_that_was_replaced_by_a_shorter_one_costs_its_images_only(s3: str, tmp_path: Path):
    _, there = in_bucket(tars.write_pets, tmp_path / "data", s3)
    media = read_index(there).select("test").table["media"].to_pylist()
    storage.write_bytes(f"{s3}/test_0.tar", storage.read_bytes(f"{s3}/test_0.tar")[:600])
    with pytest.raises(BadImage, match="truncated"):
        read_media(media[-1])


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_a_service_that_is_down_is_no_mistake_of_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str):
    use(monkeypatch, "http://127.0.0.1:9")
    config = moved(DATA[kind](tmp_path / "data"), tmp_path / "data", "s3://pets/data")
    with pytest.raises(RetryLater, match=r"^cannot (read|list) s3://pets/data[^\n]*run the same command again later$"):
        read_index(config)
