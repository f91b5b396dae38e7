"""Data and features in a bucket: encoded, swept and kept whole as on a disk, to the byte."""

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from tests.factories import tree
from tests.integration.line import (
    CLASSES,
    Desk,
    counted,
    draw_images,
    encode_config,
    sweep_config,
    trial_lines,
    write_config,
)
from xmadapter import storage
from xmadapter.config.data import CsvData
from xmadapter.data import read_csv, read_image_folder, read_media
from xmadapter.errors import ConfigError, DataError
from xmadapter.features import open_features

pytestmark = pytest.mark.timeout(300)  # Ray starts in the first test, on a machine that may be busy

COUNTS = {"train": 4, "val": 2, "test": 2}
IMAGES = 3 * sum(COUNTS.values())
BUCKET = "shapes"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bucket, and the variables that lead there in this process and in those it starts; gives an empty folder."""
    folder = tmp_path_factory.mktemp("cloud")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")).close()
    variables = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "XMADAPTER_CACHE": str(folder / "cache")}
    variables |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield folder
    server.stop()


@pytest.fixture(scope="module")
def local(cloud: Path) -> Path:
    return draw_images(cloud / "images", counts=COUNTS, side=32)


@pytest.fixture(scope="module")
def remote(local: Path) -> str:
    """The same images behind a prefix, beside what is no image."""
    root = f"s3://{BUCKET}/images"
    for name, data in tree(local).items():
        storage.write_bytes(f"{root}/{name}", data)
    storage.write_bytes(f"{root}/train/{CLASSES[0]}/notes.txt", b"of no use")
    storage.write_bytes(f"{root}/.hidden/cat/1.png", b"of no use")
    return root


@pytest.fixture(scope="module")
def desk(cloud: Path) -> Iterator[Desk]:
    """A desk of its own: Ray's processes inherit the variables of the process that starts Ray."""
    (cloud / "desk").mkdir()
    desk = Desk(cloud / "desk")
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def on_disk(cloud: Path, local: Path, desk: Desk) -> Path:
    config = encode_config(cloud / "disk.yaml", local, rows_per_shard=12, output=str(cloud / "disk"), max_actors=1)
    done = desk("pipelines.encode", "--config", config)
    assert done.status == 0, done.err
    return cloud / "disk"


@pytest.fixture(scope="module")
def in_bucket(cloud: Path, remote: str, desk: Desk) -> str:
    output = f"s3://{BUCKET}/features"
    config = encode_config(cloud / "bucket.yaml", remote, rows_per_shard=12, output=output, max_actors=1)
    done = desk("pipelines.encode", "--config", config)
    assert done.status == 0, done.err
    return output


@pytest.fixture(scope="module")
def parquet(cloud: Path, local: Path) -> str:
    """The images as rows of one file, in the bucket and on the disk, in the order of their ids."""
    names = {"train": "train", "val": "validation", "test": "test"}
    rows = [(*name.split("/")[:2], data) for name, data in tree(local).items()]
    columns = {"split": [names[split] for split, _, _ in rows], "label": [label for _, label, _ in rows]}
    pq.write_table(pa.table(columns | {"image": [data for _, _, data in rows]}), cloud / "shapes.parquet")
    storage.write_bytes(f"s3://{BUCKET}/shapes.parquet", (cloud / "shapes.parquet").read_bytes())
    return f"s3://{BUCKET}/shapes.parquet"


def objects(root: str) -> dict[str, bytes]:
    """Every object behind a prefix with its bytes."""
    return {name: storage.read_bytes(f"{root}/{name}") for name in storage.list_tree(root)}


def columns_of(root: str) -> list[list[object]]:
    """Label, view, source, norm and feature of every image of a store, in order."""
    store = open_features(root)
    tables = [store.read(info) for info in store.manifest.shards if info.modality == "image"]
    assert sum(table.num_rows for table in tables) == 3 * (4 * 3 + 2 + 2)
    names = ("label", "view", "source_sha256", "norm", "feature")
    return [pa.concat_tables(tables)[name].to_pylist() for name in names]


def test_a_folder_in_a_bucket_reads_as_one_on_a_disk(local: Path, remote: str):
    there, here = read_image_folder(remote), read_image_folder(str(local))
    columns = ["sample_id", "split", "label", "sha256"]
    assert there.table.select(columns).equals(here.table.select(columns))
    assert there.table.num_rows == IMAGES
    assert there.class_names == here.class_names == CLASSES
    assert {uri.partition("://")[0] for uri in there.table["media"].to_pylist()} == {"s3"}
    assert read_image_folder(f"{remote}/").fingerprint == there.fingerprint


def test_a_tree_is_listed_by_its_paths_in_the_order_of_bytes(local: Path, remote: str):
    assert storage.list_tree(str(local)) == sorted(tree(local), key=os.fsencode)
    assert set(storage.list_tree(remote)) - set(storage.list_tree(str(local))) == {
        f"train/{CLASSES[0]}/notes.txt",
        ".hidden/cat/1.png",
    }
    assert storage.list_tree(f"{remote}/nothing") == storage.list_tree(str(local / "nothing")) == []


def test_a_prefix_without_objects_is_a_mistake_and_one_without_classes_malformed(remote: str):
    with pytest.raises(ConfigError, match=r"s3://shapes/nothing: no such folder; correct `root`"):
        read_image_folder(f"s3://{BUCKET}/nothing")
    with pytest.raises(ConfigError, match=r"notes.txt: not a folder; correct `root`"):
        read_image_folder(f"{remote}/train/{CLASSES[0]}/notes.txt")
    with pytest.raises(DataError, match=r"s3://shapes/images/train/red circle: no class folders"):
        read_image_folder(f"{remote}/train/red circle")


def test_features_in_a_bucket_are_those_on_the_disk_to_the_byte(on_disk: Path, in_bucket: str):
    there, here = objects(in_bucket), tree(on_disk)
    assert there.keys() == here.keys()
    differing = {name for name, data in here.items() if there[name] != data}
    # The plan alone says where the images lie.
    assert {name.partition("/")[0] for name in differing} == {"plans"}
    assert sum(name.startswith("shards/") for name in here) == 6


def test_features_of_a_parquet_file_are_the_same_there(cloud: Path, parquet: str, on_disk: Path, desk: Desk):
    output = f"s3://{BUCKET}/from-parquet"
    for path, root in ((parquet, output), (cloud / "shapes.parquet", cloud / "from-parquet")):
        words = (f"data={{kind: parquet, path: '{path}'}}", f"output={root}", "views=2", "rows_per_shard=12")
        done = desk("pipelines.encode", "encoder={kind: tiny}", "max_actors=1", *words)
        assert done.status == 0, done.err
    assert columns_of(output) == columns_of(str(cloud / "from-parquet"))
    plain = [columns for columns in zip(*columns_of(output), strict=True) if columns[1] == 0]
    expected = [columns for columns in zip(*columns_of(str(on_disk)), strict=True) if columns[1] == 0]
    assert sorted(plain, key=lambda row: row[2]) == sorted(expected, key=lambda row: row[2])


def test_a_parquet_file_that_is_not_there_is_a_mistake_in_the_config(cloud: Path, parquet: str, desk: Desk):
    data = {"kind": "parquet", "path": f"{parquet}-2"}
    done = desk("xmadapter", "check", write_config(cloud / "absent.yaml", {"data": data, "output": "nowhere"}))
    assert done.status == 2
    assert done.err == f"error[config]: {parquet}-2: no such file (no such object); correct `path`\n"


def test_the_same_command_again_computes_nothing(cloud: Path, remote: str, in_bucket: str, desk: Desk):
    before = objects(in_bucket)
    done = desk("pipelines.encode", "--config", cloud / "bucket.yaml")
    assert done.status == 0, done.err
    assert "nothing computed" in done.out
    assert objects(in_bucket) == before


def test_a_sweep_of_features_in_a_bucket_finds_what_one_on_the_disk_finds(
    cloud: Path, on_disk: Path, in_bucket: str, desk: Desk
):
    found = []
    for features in (on_disk, in_bucket):
        (folder := cloud / f"swept-{len(found)}").mkdir()
        config = sweep_config(folder / "sweep.yaml", features, shots=[1])
        done = desk(
            "pipelines.sweep", "--config", config, "methods=[{adapter: {kind: zero-shot}}, {adapter: {kind: tip}}]"
        )
        assert done.status == 0, done.err
        assert trial_lines(folder / "sweep") == 2
        done = desk("pipelines.evaluate", f"sweep={folder / 'sweep'}")
        assert done.status == 0, done.err
        found.append(pq.read_table(folder / "sweep" / "predictions.parquet"))
    assert found[0].equals(found[1])


def test_the_verbs_of_the_desk_read_a_store_in_a_bucket(in_bucket: str, on_disk: Path, desk: Desk):
    shown = [desk("xmadapter", "inspect", store) for store in (in_bucket, on_disk)]
    assert [one.status for one in shown] == [0, 0]
    assert shown[0].out == shown[1].out
    verified = desk("xmadapter", "verify", "--sources", in_bucket)
    assert verified.status == 0, verified.err
    assert f"{IMAGES} source images are what was encoded" in verified.out


def test_a_damaged_object_is_set_aside_repaired_by_one_encode_and_collected(
    cloud: Path, remote: str, in_bucket: str, desk: Desk
):
    whole = objects(in_bucket)
    shard, record = (next(name for name in whole if name.startswith(part)) for part in ("shards/", "records/"))
    storage.write_bytes(f"{in_bucket}/{shard}", whole[shard][:-1] + bytes([whole[shard][-1] ^ 1]))
    storage.remove(f"{in_bucket}/{record}")
    refused = desk("xmadapter", "verify", in_bucket)
    assert refused.status == 4
    assert refused.err.startswith(f"error[integrity]: shard {in_bucket}/{shard} sha256 differs")
    repaired = desk("xmadapter", "repair", in_bucket)
    assert repaired.status == 0, repaired.err
    assert "1 shards to restore" in repaired.out
    done = desk("pipelines.encode", "--config", cloud / "bucket.yaml")
    assert done.status == 0, done.err
    assert 0 < counted(r": (\d+) features computed", done.out)[0] <= 12
    collected = desk("xmadapter", "gc", "--days", "0", in_bucket)
    assert collected.status == 0, collected.err
    assert objects(in_bucket) == whole


def test_an_image_that_changed_but_still_decodes_is_noticed_and_its_features_kept(
    cloud: Path, remote: str, in_bucket: str, desk: Desk
):
    name = f"test/{CLASSES[0]}/6.png"
    whole, before = storage.read_bytes(f"{remote}/{name}"), objects(in_bucket)
    storage.write_bytes(f"{remote}/{name}", whole + b"\0")
    verified = desk("xmadapter", "verify", "--sources", in_bucket)
    refused = desk("pipelines.encode", "--config", cloud / "bucket.yaml")
    storage.write_bytes(f"{remote}/{name}", whole)
    assert (verified.status, refused.status) == (3, 3)
    assert f"1 of {IMAGES} source images changed since {in_bucket} was encoded: {name};" in verified.err
    assert f"1 changed ({name})" in refused.err
    assert objects(in_bucket) == before


def test_a_list_in_a_bucket_names_images_in_a_bucket(local: Path, remote: str, tmp_path: Path):
    names = sorted(name for name in tree(local) if name.endswith(".png"))
    rows = ["path,label,split", *(f"{name},{name.split('/')[1]},{name.split('/')[0]}" for name in names)]
    (local.parent / "list.csv").write_text("\n".join(rows))
    storage.write_bytes(f"s3://{BUCKET}/lists/list.csv", "\n".join(rows).encode())
    here = read_csv(CsvData(path=str(local.parent / "list.csv"), root=str(local)))
    for config in (
        CsvData(path=f"s3://{BUCKET}/lists/list.csv", root=remote),
        CsvData(path=str(local.parent / "list.csv"), root=f"{remote}/"),
    ):
        there = read_csv(config)
        assert (there.fingerprint, there.class_names) == (here.fingerprint, here.class_names)
        for row, same in zip(there.table.to_pylist(), here.table.to_pylist(), strict=True):
            assert row["media"].startswith("s3://")
            assert read_media(row["media"]) == read_media(same["media"])


def test_a_list_that_is_not_in_its_bucket_is_a_config_error(cloud: Path, remote: str):
    with pytest.raises(
        ConfigError, match=r"s3://shapes/lists/absent\.csv: no such file \(no such object\); correct `path`"
    ):
        read_csv(CsvData(path=f"s3://{BUCKET}/lists/absent.csv"))
    storage.write_bytes(
        f"{remote}/strangers.csv", b"path,label,split\nx.png,cat,train\ny.png,dog,train\nz.png,dog,val\nw.png,cat,test"
    )
    with pytest.raises(ConfigError, match="holds none"):
        read_csv(CsvData(path=f"{remote}/strangers.csv"))
