"""Durable bytes at a URI: whole or not at all, on a disk or in a bucket."""

from xmadapter.storage.disk import append_durably, mend_tail, write_durably
from xmadapter.storage.folders import make_folder, make_folder_whole
from xmadapter.storage.uri import (
    cache_folder,
    fetch,
    free_bytes,
    is_remote,
    join,
    list_names,
    list_tree,
    local_path,
    modified_s,
    move,
    put_if_absent,
    read_bytes,
    read_range,
    remove,
    size_of,
    sweep_temporary,
    write_bytes,
)

__all__ = [
    "append_durably",
    "cache_folder",
    "fetch",
    "free_bytes",
    "is_remote",
    "join",
    "list_names",
    "list_tree",
    "local_path",
    "make_folder",
    "make_folder_whole",
    "mend_tail",
    "modified_s",
    "move",
    "put_if_absent",
    "read_bytes",
    "read_range",
    "remove",
    "size_of",
    "sweep_temporary",
    "write_bytes",
    "write_durably",
]
