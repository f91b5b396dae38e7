"""Tokens on disk: what was written is read, row by row; a file that is not whole is refused."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import integers, lists
from torch import Tensor

from xmadapter.encoder_adapters import TokenFile, write_tokens
from xmadapter.errors import IntegrityError

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def make_batches(*, dtype: torch.dtype = torch.float32, channels: int = 5) -> list[tuple[Tensor, Tensor]]:
    """Three batches of unequal sizes, padded to unequal lengths, with what is left out in them."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for rows, longest in ((3, 4), (1, 7), (5, 2)):
        tokens = torch.randn(rows, longest, channels, generator=generator).to(dtype)
        batches.append((tokens, torch.randint(1, longest + 1, (rows,), generator=generator)))
    return batches


def written(path: Path, batches: list[tuple[Tensor, Tensor]]) -> TokenFile:
    write_tokens(path, batches, block=9, fingerprint="ab12")
    return TokenFile(path)


def as_rows(batches: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [row[:length] for tokens, lengths in batches for row, length in zip(tokens, lengths.tolist(), strict=True)]


@pytest.fixture(scope="module")
def nine_rows(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    return written(tmp_path_factory.mktemp("tokens") / "tokens.arrow", make_batches())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_was_written_is_read_bit_by_bit(tmp_path, dtype):
    batches = make_batches(dtype=dtype)
    file = written(tmp_path / "tokens.arrow", batches)
    tokens, lengths = file.rows(torch.arange(len(file)))
    assert (file.block, file.fingerprint, file.dtype, file.channels, len(file)) == (9, "ab12", dtype, 5, 9)
    assert tokens.dtype == dtype
    assert lengths.tolist() == [len(row) for row in as_rows(batches)]
    assert torch.equal(tokens, torch.nn.utils.rnn.pad_sequence(as_rows(batches), batch_first=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_that_are_not_ordinary_keep_their_bits(tmp_path, dtype):
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, torch.finfo(dtype).smallest_normal / 4])
    tokens = special.to(dtype)[None, None]
    read, _ = written(tmp_path / "tokens.arrow", [(tokens, torch.tensor([1]))]).rows(torch.tensor([0]))
    whole = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(read.view(whole), tokens.view(whole))


@given(chosen=lists(integers(0, 8), max_size=20))
def test_rows_come_in_the_order_asked_for_and_may_repeat(nine_rows, chosen):
    expected = [as_rows(make_batches())[row] for row in chosen]
    tokens, lengths = nine_rows.rows(torch.tensor(chosen, dtype=torch.long))
    assert lengths.tolist() == [len(row) for row in expected]
    assert tokens.shape == (len(chosen), max(map(len, expected), default=0), 5)
    for padded, row in zip(tokens, expected, strict=True):
        assert torch.equal(padded[: len(row)], row)
        assert not padded[len(row) :].any()


def test_how_rows_were_batched_changes_nothing(tmp_path):
    rows = as_rows(make_batches())
    alone = [(row[None], torch.tensor([len(row)])) for row in rows]
    files = [written(tmp_path / "a", make_batches()), written(tmp_path / "b", alone)]
    order = torch.tensor([8, 0, 3, 4])
    assert all(map(torch.equal, *(file.rows(order) for file in files)))


def test_what_is_read_can_be_changed_without_changing_the_file(tmp_path):
    file = written(tmp_path / "tokens.arrow", make_batches())
    first, _ = file.rows(torch.tensor([0]))
    kept = first.clone()
    first.zero_()
    assert torch.equal(file.rows(torch.tensor([0]))[0], kept)


@pytest.mark.parametrize("row", [-1, 9])
def test_a_row_that_is_not_there_is_refused(nine_rows, row):
    with pytest.raises(IndexError, match="has rows 0 to 8"):
        nine_rows.rows(torch.tensor([0, row]))


def test_memory_holds_the_rows_asked_for_and_one_batch_while_writing(tmp_path):
    alive: list[int] = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        made = []
        for _ in range(20):
            tokens = torch.zeros(64, 10, 256)
            made.append(weakref.ref(tokens))
            yield tokens, torch.full((64,), 10)
            del tokens
            alive.append(sum(one() is not None for one in made))

    write_tokens(tmp_path / "tokens.arrow", batches(), block=0, fingerprint="")
    assert len(alive) == 20
    assert max(alive) <= 2  # the first one, and the one being written
    before = pa.total_allocated_bytes()
    file = TokenFile(tmp_path / "tokens.arrow")
    file.rows(torch.arange(0, len(file), 64))
    assert (tmp_path / "tokens.arrow").stat().st_size > 13_000_000
    assert pa.total_allocated_bytes() - before < 100_000


def test_a_broken_off_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "tokens.arrow"
    seen: list[bool] = []

    def broken() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in make_batches():
            seen.append(path.exists())
            yield batch
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tokens(path, broken(), block=9, fingerprint="")
    assert seen == [False] * 3  # so that a process that is killed leaves no file of this name either
    assert list(tmp_path.iterdir()) == []
    before = written(path, make_batches()).path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_tokens(path, broken(), block=9, fingerprint="")
    assert [one.name for one in tmp_path.iterdir()] == ["tokens.arrow"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("batches", "reason"),
    [
        ([], "there is no batch"),
        ([(torch.zeros(1, 1, 4, dtype=torch.float64), torch.tensor([1]))], "got torch.float64"),
        (make_batches() + make_batches(channels=6), "5 channels of torch.float32, then 6 channels"),
        (make_batches() + make_batches(dtype=torch.bfloat16), "then 5 channels of torch.bfloat16"),
    ],
)
def test_batches_that_are_no_file_are_refused(tmp_path, batches, reason):
    with pytest.raises(ValueError, match=reason):
        write_tokens(tmp_path / "tokens.arrow", batches, block=0, fingerprint="")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(tmp_path, share):
    path = written(tmp_path / "tokens.arrow", make_batches()).path
    whole = path.read_bytes()
    path.unlink()  # the mapped file stays as it is
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(IntegrityError, match="cannot be used"):
        TokenFile(path)


def test_rows_that_begin_in_the_wrong_place_are_refused(tmp_path):
    path = tmp_path / "tokens.arrow"
    lengths = torch.tensor([3, 1, 2])
    whole = written(path, [(torch.ones(3, 3, 4), lengths)]).path.read_bytes()
    offsets = torch.tensor([0, 3, 4, 6]).numpy().tobytes()
    assert whole.count(offsets) == 1
    path.unlink()
    path.write_bytes(whole.replace(offsets, torch.tensor([0, 3, 1 << 40, 6]).numpy().tobytes()))
    with pytest.raises(IntegrityError, match="cannot be used"):
        TokenFile(path)


@pytest.mark.parametrize("changed", ["kind", "dtype", "type", "no metadata"])
def test_a_foreign_file_is_refused(tmp_path, changed):
    path = tmp_path / "tokens.arrow"
    metadata = {
        "kind": "xmadapter tokens 1",
        "block": "9",
        "fingerprint": "",
        "dtype": "torch.float32",
        "channels": "2",
    }
    column = pa.array([[[1.0, 2.0]]], pa.large_list(pa.list_(pa.float32(), 2)))
    match changed:
        case "kind":
            metadata["kind"] = "xmadapter tokens 2"
        case "dtype":
            metadata["dtype"] = "torch.bfloat16"
        case "type":
            column = pa.array([[1.0, 2.0]])
        case _:
            metadata = {}
    schema = pa.schema([pa.field("tokens", column.type)], metadata=metadata)
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([column], schema=schema))
    with pytest.raises(IntegrityError, match="cannot be used"):
        TokenFile(path)


def test_a_missing_file_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        TokenFile(tmp_path / "tokens.arrow")
