"""Ledger: append-only, fsynced, checksummed JSON lines. What it holds happened; everything else can be rebuilt from it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from xmadapter.errors import IntegrityError
from xmadapter.storage import append_durably, mend_tail
from xmadapter.strict import parse_json

__all__ = ["Entry", "Ledger"]


@dataclass(frozen=True)
class Entry:
    """One line: what kind of event, of which uid, with what content (JSON-like)."""

    kind: str
    uid: str
    body: dict[str, Any]


class Ledger:
    """Lines in a file, each with the hash of its content. One process writes, its threads may share the object.

    Args:
        path: The file; made by the first append.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()

    def append(self, entry: Entry) -> None:
        """Write one line; when this returns, it survives a killed process.

        Raises:
            ResourceError: The disk is full or not writable.
        """
        text = json.dumps([entry.kind, entry.uid, entry.body], separators=(",", ":"), allow_nan=False)
        with self._lock:
            mend_tail(self.path, _is_whole)
            append_durably(self.path, f"{_digest(text)} {text}\n".encode())

    def entries(self, kind: str | None = None) -> Iterator[Entry]:
        """Read the lines in order, of one kind or all. A torn last line, left by a killed writer, never happened.

        Raises:
            IntegrityError: A whole line is damaged; names it.
        """
        if not self.path.is_file():
            return
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True), start=1):
            if not _is_whole(line):
                if not line.endswith(b"\n"):
                    return
                raise IntegrityError(
                    f"{self.path}: line {number} is damaged; the other lines are kept; delete that line"
                )
            kind_uid_body: Any = parse_json(line.partition(b" ")[2])
            entry = Entry(*kind_uid_body)
            if kind in (None, entry.kind):
                yield entry


def _is_whole(line: bytes) -> bool:
    digest, _, text = line.decode(errors="replace").rstrip("\n").partition(" ")
    return digest == _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
