"""WebDataset shards: an index by byte ranges, of names, classes and captions from members side by side."""

import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.contracts.reader import CaptionReaderContract, ReaderContract
from tests.unit.data.makers import encoded, picture
from tests.unit.data.tars import Members, changed, sample, samples, write_pets
from xmadapter.config.data import WebDatasetData
from xmadapter.data import BadImage, SampleIndex, read_index, read_media, read_webdataset
from xmadapter.errors import ConfigError, DataError


class TestWebDataset(ReaderContract):
    @pytest.fixture
    def index(self, tmp_path: Path) -> SampleIndex:
        return read_index(write_pets(tmp_path / "pets"))

    @pytest.fixture
    def shuffled(self, tmp_path: Path) -> SampleIndex:
        mixed = [
            sample("a2"),
            sample("b1", "dog"),
            sample("a1", "dog"),
            sample("b0"),
            sample("a3", "dog"),
            sample("a0"),
        ]
        members = [member for one in mixed for member in one[::-1]]
        return read_index(write_pets(tmp_path / "others", train_0=members[:9], train_1=members[9:]))

    @pytest.fixture
    def read_missing(self, tmp_path: Path) -> Callable[[], SampleIndex]:
        config = write_pets(tmp_path / "pets")
        return partial(read_webdataset, changed(config, train=f"{tmp_path}/pets/train_{{0..2}}.tar"))

    @pytest.fixture
    def read_truncated(self, tmp_path: Path) -> Callable[[], SampleIndex]:
        config = write_pets(tmp_path / "pets")
        os.truncate(tmp_path / "pets" / "train_1.tar", 2000)
        return partial(read_webdataset, config)


class TestCaptionsAlone(CaptionReaderContract, TestWebDataset):
    """The same shards without classes."""

    @pytest.fixture
    def index(self, tmp_path: Path) -> SampleIndex:
        return read_index(changed(write_pets(tmp_path / "pets"), label=None))

    @pytest.fixture
    def shuffled(self, tmp_path: Path) -> SampleIndex:
        config = write_pets(tmp_path / "pets", train_0=samples("b0", "b1", "a1"), train_1=samples("a3", "a2", "a0"))
        return read_index(changed(config, label=None))

    def test_every_class_has_a_training_image(self, index: SampleIndex) -> None:
        assert index.counts()["train"] == {}


def test_bytes_are_those_of_the_member(tmp_path: Path) -> None:
    index = read_webdataset(write_pets(tmp_path / "pets"))
    uris = dict(zip(index.table["sample_id"].to_pylist(), index.table["media"].to_pylist(), strict=True))
    assert {name: read_media(uri) for name, uri in uris.items()} == {
        f"{split}/{key}": dict(sample(key))[f"{key}.png"]
        for split, keys in (
            ("train", ("a0", "a1", "a2", "a3", "b0", "b1")),
            ("validation", ("c0", "c1")),
            ("test", ("d0", "d1")),
        )
        for key in keys
    }


def test_classes_and_captions_come_from_their_members(tmp_path: Path) -> None:
    index = read_webdataset(write_pets(tmp_path / "pets"))
    assert index.class_names == ("cat", "dog")
    assert index.table["label"].to_pylist()[:2] == [0, 1]
    assert index.table["captions"].to_pylist()[0] == ["photo 2"]


def test_without_validation_shards_a_fifth_of_each_class_is_taken_from_train(tmp_path: Path) -> None:
    keys = [f"k{number}" for number in range(20)]
    config = changed(write_pets(tmp_path / "pets", train_0=samples(*keys), train_1=[]), validation=None)
    first, again = read_webdataset(config), read_webdataset(config)
    assert first.counts() == {
        "train": {"cat": 8, "dog": 8},
        "validation": {"cat": 2, "dog": 2},
        "test": {"cat": 1, "dog": 1},
    }
    assert first == again


@pytest.mark.parametrize("as_file", [True, False])
def test_numbers_are_positions_among_the_classes(tmp_path: Path, as_file: bool) -> None:
    numbered = [(name, data.replace(b"cat", b"1").replace(b"dog", b"0\n")) for name, data in samples("a", "b")]
    config = write_pets(tmp_path / "pets", train_0=numbered)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    index = read_webdataset(changed(config, classes=str(tmp_path / "classes.txt") if as_file else ("dog", "cat")))
    assert index.class_names == ("dog", "cat")
    assert index.counts()["train"] == {"dog": 2, "cat": 2}


def test_numbers_without_names_are_refused(tmp_path: Path) -> None:
    numbered = {
        f"{name}_0": [
            (f"{name}{n}.{kind}", data) for n in range(2) for kind, data in (("png", b"x"), ("cls", b"%d" % n))
        ]
        for name in ("train", "val", "test")
    }
    with pytest.raises(DataError, match=r"classes are numbers \(0, 1\) without names; set `classes`"):
        read_webdataset(write_pets(tmp_path / "pets", **numbered, train_1=[]))


@pytest.mark.parametrize("label", [b"2", b"-1", b"owl", b"", b"\x1b[31m"])
def test_a_class_that_is_not_listed_is_refused_with_its_sample(tmp_path: Path, label: bytes) -> None:
    config = write_pets(tmp_path / "pets", train_1=[("x.png", b"x"), ("x.cls", label)])
    with pytest.raises(DataError, match=r"^[^\n\x1b]*sample 'train/x' has class [^\n\x1b]*correct `classes`$"):
        read_webdataset(changed(config, classes=("cat", "dog")))


def test_json_holds_classes_and_captions(tmp_path: Path) -> None:
    def described(key: str, breed: object) -> Members:
        facts = {"breed": breed, "texts": ["One. ", "Two\nlines.", " "], "width": float("nan")}
        return [(f"{key}.JPG", encoded(picture(key), "JPEG")), (f"{key}.json", json.dumps(facts).encode())]

    shards = {f"{name}_0": described(f"{name}0", 0) + described(f"{name}1", "dog") for name in ("train", "val", "test")}
    config = write_pets(tmp_path / "pets", **shards, train_1=[])
    index = read_webdataset(changed(config, label="json.breed", captions="json.texts", classes=("cat", "dog")))
    assert index.counts()["test"] == {"cat": 1, "dog": 1}
    assert index.table["captions"].to_pylist() == [["One.", "Two lines."]] * 6


@pytest.mark.parametrize(
    "text",
    [
        *(b"{", b"[]", b"{}", b"\xff", b"[" * 100_000),
        *(b'{"label": [1]}', b'{"label": 1.5}', b'{"label": true}', b'{"label": ["a", "b"]}'),
        b'{"label": "' + b"x" * (1 << 20) + b'"}',
    ],
    ids=range(10),
)
def test_json_without_one_class_is_refused_naming_shard_and_sample(tmp_path: Path, text: bytes) -> None:
    config = write_pets(tmp_path / "pets", train_0=[("x.png", b"x"), ("x.json", text)])
    with pytest.raises(DataError, match=r"^[^\n]*train_0\.tar: sample 'x'[^\n]*$"):
        read_webdataset(changed(config, label="json.label"))


class Canary:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("canary",)


@pytest.mark.parametrize("kind", ["pyd", "pickle", "pkl", "pth", "pt", "npy", "npz", "ten", "mp", "cbor"])
def test_members_that_could_run_code_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = (f"a0.{kind}", pickle.dumps(Canary()))
    index = read_webdataset(write_pets(tmp_path / "pets", train_0=[*samples("a0", "a1"), evil]))
    assert index.counts()["train"] == {"cat": 2, "dog": 2}
    assert not (tmp_path / "canary").exists()
    with pytest.raises(DataError, match=r"sample 'b0' needs one image member"):
        read_webdataset(write_pets(tmp_path / "pets", train_1=[(f"b0.{kind}", pickle.dumps(Canary()))]))
    assert not (tmp_path / "canary").exists()


def test_two_images_of_one_sample_are_refused_until_one_is_named(tmp_path: Path) -> None:
    config = write_pets(
        tmp_path / "pets", train_0=[*samples("a0", "a1"), ("a0.seg.png", b"mask"), ("a0.jpg", b"other")]
    )
    with pytest.raises(DataError, match=r"sample 'a0' needs one image .* it has a0\.jpg, a0\.png; .* set `image`"):
        read_webdataset(config)
    assert read_webdataset(changed(config, image=("png",))).counts()["train"] == {"cat": 2, "dog": 2}


def test_a_name_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"two members 'a0\.png', at offsets 512 and 6656; rename"):
        read_webdataset(write_pets(tmp_path / "pets", train_0=samples("a0", "a1", "a0")))
    with pytest.raises(DataError, match=r"id 'train/b1': \S+train_[01]\.tar\S+ and \S+train_[01]\.tar"):
        read_webdataset(write_pets(tmp_path / "cats", train_0=samples("b1", "a1")))


def test_odd_names_stay_apart_and_printable(tmp_path: Path) -> None:
    names = ["caf\u00e9", "cafe\u0301", "a b", "new\nline", "100%", os.fsdecode(b"\xff"), "x/y z", "n" * 200]
    index = read_webdataset(write_pets(tmp_path / "pets", train_0=samples(*names)))
    ids = index.select("train").table["sample_id"].to_pylist()
    assert len(ids) == len(names) + 2
    assert {"train/new%0Aline", "train/%FF", "train/100%25", "train/x/y z"} <= set(ids)
    assert all(read_media(uri) for uri in index.table["media"].to_pylist())


def test_a_leading_dot_slash_folders_and_hidden_files_change_nothing(tmp_path: Path) -> None:
    plain = read_webdataset(write_pets(tmp_path / "pets"))
    folder = write_pets(tmp_path / "others").train.rpartition("/")[0]
    with tarfile.open(f"{folder}/train_0.tar", "w") as archive:
        for name in ("./", "./sub/"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for name, data in [("./._a0.png", b"AppleDouble"), *samples("a0", "a1", "a2", "a3")]:
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert read_webdataset(write_pets_again(folder)).fingerprint == plain.fingerprint


def write_pets_again(folder: str) -> WebDatasetData:
    return WebDatasetData(train=f"{folder}/train_*.tar", validation=f"{folder}/val_0.tar", test=f"{folder}/test_0.tar")


def test_a_shard_that_became_shorter_costs_its_images_only(tmp_path: Path) -> None:
    index = read_webdataset(write_pets(tmp_path / "pets"))
    os.truncate(tmp_path / "pets" / "test_0.tar", 600)
    with pytest.raises(BadImage, match="truncated"):
        read_media(index.select("test").table["media"][1].as_py())
    assert read_media(index.select("train").table["media"][0].as_py())


class TestPatterns:
    def test_braces_name_files_that_must_be_there(self, tmp_path: Path) -> None:
        config = write_pets(tmp_path / "pets")
        listed = changed(config, train=f"{tmp_path}/pets/train_{{0,1}}.tar")
        assert read_webdataset(listed) == read_webdataset(config)
        with pytest.raises(ConfigError, match=r"train_7\.tar: cannot open it \(No such file.*correct `train`"):
            read_webdataset(changed(config, train=f"{tmp_path}/pets/train_{{0,7}}.tar"))

    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_what_matches_nothing_names_the_setting(self, tmp_path: Path, split: str) -> None:
        config = write_pets(tmp_path / "pets")
        with pytest.raises(ConfigError, match=rf"no\*\.tar: no file matches; correct `{split}`"):
            read_webdataset(changed(config, **{split: f"{tmp_path}/no*.tar"}))

    def test_a_file_name_may_hold_what_a_pattern_would(self, tmp_path: Path) -> None:
        config = write_pets(tmp_path / "pets")
        odd = (tmp_path / "pets" / "test_0.tar").rename(tmp_path / "pets" / "te{s,t}[0]*.tar")
        assert read_webdataset(changed(config, test=str(odd))).select("test").table.num_rows == 2

    def test_a_shard_in_two_splits_is_refused(self, tmp_path: Path) -> None:
        config = write_pets(tmp_path / "pets")
        (tmp_path / "link.tar").symlink_to(tmp_path / "pets" / "train_0.tar")
        with pytest.raises(ConfigError, match=r"link\.tar: in test, and in train as \S+train_0\.tar; correct `test`"):
            read_webdataset(changed(config, test=f"{tmp_path}/link.tar"))

    @pytest.mark.timeout(10)
    def test_a_pattern_of_too_many_files_is_refused(self, tmp_path: Path) -> None:
        config = write_pets(tmp_path / "pets")
        with pytest.raises(ConfigError, match="over 100000 files; correct `train`"):
            read_webdataset(changed(config, train=f"{tmp_path}/{{0..999}}{{0..999}}{{0..999}}.tar"))

    def test_a_folder_is_no_shard(self, tmp_path: Path) -> None:
        config = write_pets(tmp_path / "pets")
        with pytest.raises(ConfigError, match=r"cannot open the shard \(not_regular.*correct `train`"):
            read_webdataset(changed(config, train=str(tmp_path)))
