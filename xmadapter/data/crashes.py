"""What decoding says of images, also of those whose decoder kills the process it runs in: they are decoded in a child process.

A program too: it decodes the media URIs that come as lines, and answers each with a line: empty, or the reason.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

from xmadapter.data.files import BadImage
from xmadapter.data.media import decode_image, read_media
from xmadapter.errors import ResourceError

__all__ = ["decode_reasons", "find_crashing"]


def find_crashing(media: Sequence[str]) -> set[str]:
    """Give the images that kill a process in which nothing else is decoded.

    Costs a child process, and two more for each image that kills one.

    Args:
        media: Media URIs.
    """
    reasons = zip(media, decode_reasons(media), strict=True)
    return {uri for uri, reason in reasons if reason == "crashed_decoder"}


def decode_reasons(media: Sequence[str]) -> Iterator[str | None]:
    """Decode images in a child process, one after another; yields why each cannot be, or None.

    Args:
        media: Media URIs.

    Raises:
        ResourceError: The child failed by itself, as where a bucket does not answer; says how.
    """
    rest = list(media)
    while rest:
        survived = 0
        for reason in _answers(rest):
            survived += 1
            yield reason
        if survived < len(rest):
            # Alone, as the child may have been ended from outside.
            yield next(_answers([rest[survived]]), "crashed_decoder")
        rest = rest[survived + 1 :]


def _answers(media: Sequence[str]) -> Iterator[str | None]:
    """Read what a child says; it ends early where a signal ended the child."""
    with tempfile.TemporaryFile("w+") as lines, tempfile.TemporaryFile("w+") as complaint:
        lines.write("\n".join(media))
        lines.seek(0)
        with subprocess.Popen(
            [sys.executable, "-m", "xmadapter.data.crashes"],
            stdin=lines,
            stdout=subprocess.PIPE,
            stderr=complaint,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                yield line.strip() or None
        if child.returncode > 0:
            complaint.seek(0)
            last = (complaint.read().strip().splitlines() or ["no word"])[-1]
            raise ResourceError(f"the process that decodes images failed ({last}); nothing was written; run again")


def _decode_lines() -> None:
    for line in sys.stdin.read().splitlines():
        reason = ""
        try:
            decode_image(read_media(line))
        except BadImage as error:
            reason = error.reason
        sys.stdout.write(f"{reason}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _decode_lines()
