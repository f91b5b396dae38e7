"""Tokens of many rows in one Arrow file, which is mapped, not read."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xmadapter.errors import IntegrityError
from xmadapter.storage import write_durably

__all__ = ["TokenFile", "write_tokens"]

_KIND = "xmadapter tokens 1"
_DTYPES = {torch.float32: pa.float32(), torch.float16: pa.float16(), torch.bfloat16: pa.uint16()}
"""How Arrow stores each precision; it has no bfloat16, whose bits are kept."""

TokenBatch = tuple[Float[Tensor, "_ _ _"], Int[Tensor, " _"]]
"""Tokens [rows, tokens, channels] and lengths [rows]; the axes have no names, as they differ from batch to batch."""


def write_tokens(path: Path, batches: Iterable[TokenBatch], *, block: int, fingerprint: str) -> None:
    """Write tokens to a file, all or nothing; one batch is in memory at a time.

    Args:
        path: Replaced when the last batch is written.
        batches: Tokens in float32, float16 or bfloat16, and how many of each row count; what stands behind is left out. All of one
            precision and number of channels, on any device. Each batch becomes a record batch, so that reading a row touches
            that row's bytes only.
        block: The block that the tokens enter.
        fingerprint: Of the encoder and of whatever else decided the tokens; a reader compares it.

    Raises:
        ValueError: There is no batch, or the batches differ in precision or channels.
        ResourceError: The disk is full or not writable; nothing is left.
    """
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise ValueError("no tokens to write: there is no batch")
    dtype, channels = first[0].dtype, first[0].shape[2]
    if dtype not in _DTYPES:
        raise ValueError(f"tokens are float32, float16 or bfloat16, got {dtype}")
    schema = _schema(dtype, channels, block=block, fingerprint=fingerprint)
    write_durably(path, lambda file: _write(file, schema, chain([first], rest)))


class TokenFile:
    """Rows of a file of tokens, in any order; memory holds the rows asked for and 8 bytes for each record batch.

    Args:
        path: As `write_tokens` wrote it. It stays mapped for as long as this object lives.

    Attributes:
        block: The block that the tokens enter.
        fingerprint: Of the encoder and of whatever else decided the tokens.
        channels: Width of a token.
        dtype: float32, float16 or bfloat16.

    Raises:
        FileNotFoundError: There is no such file.
        IntegrityError: It is cut off, damaged, or was written by something else. What is checked is its structure, not
            every value.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
            self.block, self.fingerprint, self.dtype, self.channels = _described(self._reader.schema)
            counts = [len(self._column(number)) for number in range(self._reader.num_record_batches)]
        except FileNotFoundError:
            raise
        except (pa.ArrowInvalid, OSError, ValueError, KeyError) as error:
            raise self._damaged(error) from error
        self._starts = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows(
        self, indices: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch tokens channels"], Int[Tensor, " batch"]]:
        """Read rows, in the order of their indices, which may repeat.

        Args:
            indices: From 0 to the last row, on the CPU.

        Returns:
            Tokens on the CPU, padded with zeros to the longest of these rows, and how many tokens each row has.

        Raises:
            IndexError: There is no such row.
            IntegrityError: A record batch is damaged.
        """
        try:
            views = self._views(indices.numpy())
        except (pa.ArrowInvalid, OSError) as error:
            raise self._damaged(error) from error
        lengths = torch.tensor([len(view) for view in views], dtype=torch.long)
        tokens = torch.zeros(len(views), max(map(len, views), default=0), self.channels, dtype=self.dtype)
        bits = tokens.view(torch.uint16) if self.dtype == torch.bfloat16 else tokens
        for padded, view in zip(bits.numpy(), views, strict=True):
            padded[: len(view)] = view
        return tokens, lengths

    def _views(self, rows: np.ndarray) -> list[np.ndarray]:
        """View rows in the mapped file, tokens by channels; each record batch is looked up once."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"{self.path} has rows 0 to {len(self) - 1}; asked for {rows.min()} to {rows.max()}")
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        columns = {number: self._column(number) for number in set(numbers.tolist())}
        return [
            _row(columns[number], row)
            for number, row in zip(numbers.tolist(), (rows - self._starts[numbers]).tolist(), strict=True)
        ]

    def _column(self, number: int) -> Any:
        # pyarrow's classes are not typed. The check covers where rows begin; it does not touch the values.
        column = self._reader.get_batch(number).column(0)
        column.validate(full=True)
        return column

    def _damaged(self, reason: Exception) -> IntegrityError:
        return IntegrityError(
            f"tokens {self.path} cannot be used: {reason}; nothing else is touched; delete the file, and it is computed again"
        )


def _write(file: Any, schema: pa.Schema, batches: Iterator[TokenBatch]) -> None:
    with pa.ipc.new_file(file, schema) as writer:
        for tokens, lengths in batches:
            writer.write_batch(_record_batch(tokens, lengths, schema))


def _record_batch(tokens: Tensor, lengths: Tensor, schema: pa.Schema) -> pa.RecordBatch:
    _, _, dtype, channels = _described(schema)
    if tokens.dtype != dtype or tokens.shape[2] != channels:
        raise ValueError(
            f"batches differ: {channels} channels of {dtype}, then {tokens.shape[2]} channels of {tokens.dtype}"
        )
    lengths = lengths.cpu()
    counted = torch.arange(tokens.shape[1]) < lengths[:, None]
    flat = tokens.detach().cpu()[counted].reshape(-1)
    bits = flat.view(torch.uint16) if dtype == torch.bfloat16 else flat
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(bits.numpy()), channels)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths.numpy())]), pa.int64())
    rows = pa.LargeListArray.from_arrays(offsets, vectors)
    return pa.RecordBatch.from_arrays([rows.cast(schema.field(0).type)], schema=schema)


def _schema(dtype: torch.dtype, channels: int, *, block: int, fingerprint: str) -> pa.Schema:
    metadata = {"kind": _KIND, "block": str(block), "fingerprint": fingerprint}
    metadata |= {"dtype": str(dtype), "channels": str(channels)}
    return pa.schema([pa.field("tokens", pa.large_list(pa.list_(_DTYPES[dtype], channels)))], metadata=metadata)


def _described(schema: pa.Schema) -> tuple[int, str, torch.dtype, int]:
    """Read block, fingerprint, precision and channels off a schema.

    Raises:
        ValueError: It is not one of ours.
    """
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    if metadata.get("kind") != _KIND:
        raise ValueError("it is no file of tokens, or one of another version")
    dtype = {str(one): one for one in _DTYPES}[metadata["dtype"]]
    block, fingerprint, channels = int(metadata["block"]), metadata["fingerprint"], int(metadata["channels"])
    if not schema.equals(_schema(dtype, channels, block=block, fingerprint=fingerprint), check_metadata=True):
        raise ValueError("it has another schema")
    return block, fingerprint, dtype, channels


def _row(column: Any, row: int) -> np.ndarray:
    start, end = column.offsets[row].as_py(), column.offsets[row + 1].as_py()
    channels = column.type.value_type.list_size
    return column.values.values[start * channels : end * channels].to_numpy().reshape(-1, channels)
