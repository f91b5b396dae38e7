"""Tar archives that are not what they should be: refused in one line, with nothing extracted."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import law
from tests.unit.data.tars import sample, samples, write_pets, write_tar
from xmadapter.data import read_webdataset
from xmadapter.data.tar import tar_members
from xmadapter.errors import DataError


def add_special(path: Path, **fields: object) -> None:
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("evil.png")
        for name, value in fields.items():
            setattr(info, name, value)
        archive.addfile(info)


SPECIAL = {
    "symbolic link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "hard link": {"type": tarfile.LNKTYPE, "linkname": "a0.png"},
    "FIFO": {"type": tarfile.FIFOTYPE},
    "device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
    "absolute": {"name": "/etc/evil.png"},
    "parent": {"name": "../evil.png"},
    "inner parent": {"name": "a/../../evil.png"},
    "long": {"name": "n" * 1100},
}


@pytest.mark.parametrize("fields", SPECIAL.values(), ids=SPECIAL)
def test_what_is_no_plain_file_below_is_refused_and_nothing_is_extracted(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    config = write_pets(tmp_path / "pets")
    add_special(tmp_path / "pets" / "train_0.tar", **fields)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"^[^\n]*train_0\.tar: member '[^']*' at offset \d+ (is a link|has a)[^\n]*$"):
        read_webdataset(config)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_shards_are_refused_with_advice(tmp_path: Path, mode: str) -> None:
    config = write_pets(tmp_path / "pets")
    tarfile.open(tmp_path / "pets" / "train_0.tar", mode).close()
    with pytest.raises(DataError, match=r"train_0\.tar: compressed with (gzip|bzip2|xz).*decompress it"):
        read_webdataset(config)


def test_an_archive_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", samples("a", "b"), kind=tarfile.USTAR_FORMAT).read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    cuts = [*range(0, end + 512, 73), *range(0, end + 512, 512)]
    for cut in cuts:
        path = tmp_path / "cut.tar"
        path.write_bytes(whole[:cut])
        with path.open("rb") as file, pytest.raises(DataError, match=r"^cut\.tar: [^\n]+$"):
            list(tar_members(file, source="cut.tar"))
    assert len(cuts) > 50


def test_a_cut_archive_is_named_with_the_offset(tmp_path: Path) -> None:
    config = write_pets(tmp_path / "pets")
    path = tmp_path / "pets" / "train_1.tar"
    with path.open("rb") as file:
        last = list(tar_members(file, source=""))[-1]
    os.truncate(path, last.offset)
    with pytest.raises(DataError, match=rf"train_1\.tar: .*header at offset {last.offset - 512}.*copy"):
        read_webdataset(config)
    os.truncate(path, last.offset - 512)
    with pytest.raises(DataError, match=rf"train_1\.tar: no mark of its end.* at offset {last.offset - 512}; copy"):
        read_webdataset(config)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    config = write_pets(tmp_path / "pets")
    path = tmp_path / "pets" / "train_1.tar"
    with path.open("rb+") as file:
        last = list(tar_members(file, source=""))[-1]
        file.seek(last.offset - 512)
        file.write(b"X")
    with pytest.raises(DataError, match=rf"damaged header at offset {last.offset - 512}"):
        read_webdataset(config)


def forged(size: int, kind: bytes) -> bytes:
    """A header that claims a size, behind one sound member."""
    info = tarfile.TarInfo("evil.png")
    info.type, info.size = kind, size
    return info.tobuf(format=tarfile.GNU_FORMAT)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("size", [-512, -(1 << 40), 1 << 40, 1 << 62, 2 << 20])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_forged_sizes_neither_hang_nor_fill_memory(tmp_path: Path, size: int, kind: bytes) -> None:
    path = write_tar(tmp_path / "evil.tar", sample("a"), kind=tarfile.GNU_FORMAT)
    end = len(path.read_bytes().rstrip(b"\0")) // 512 * 512 + 512
    path.write_bytes(path.read_bytes()[:end] + forged(size, kind) + bytes(1024))
    os.truncate(path, 4 << 20)
    with path.open("rb") as file:
        outcome = describe(list, tar_members(file, source="evil.tar"))
    # A regular member of 2 MiB is within this file of 4.
    assert outcome == "4 members" if (size, kind) == (2 << 20, tarfile.REGTYPE) else outcome.startswith("evil.tar: ")


def describe(act: Callable[..., list[object]], *arguments: object) -> str:
    try:
        return f"{len(act(*arguments))} members"
    except DataError as error:
        return str(error)


def test_a_chain_of_headers_does_not_overflow_the_stack(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    path.write_bytes(forged(0, tarfile.XHDTYPE) * 20_000 + bytes(1024))
    with path.open("rb") as file, pytest.raises(DataError, match=r"^evil\.tar: not a whole tar archive[^\n]*$"):
        list(tar_members(file, source="evil.tar"))


SOUND = tuple(samples("a", "b"))


@law
@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_damaged_archives_give_members_in_the_file_or_an_error_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], pax: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    write_tar(path, [("n" * 120 + ".txt", b"x"), *SOUND], kind=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)
    damaged = bytearray(path.read_bytes())
    for position, value in changes:
        damaged[position % len(damaged)] = value
    path.write_bytes(damaged)
    members, said = [], "damaged.tar: none"
    try:
        with path.open("rb") as file:
            members = list(tar_members(file, source="damaged.tar"))
    except DataError as error:
        said = str(error)
    assert [line[:13] for line in said.splitlines()] == ["damaged.tar: "]
    assert all(0 <= member.offset <= member.offset + member.size_bytes <= len(damaged) for member in members)
