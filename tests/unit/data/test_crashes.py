"""Images that kill the process that decodes them are found, named, and none besides."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.unit.data.makers import encoded, picture
from xmadapter.data import media_uri
from xmadapter.data.crashes import decode_reasons, find_crashing
from xmadapter.errors import ResourceError

FAULT = f"""
import io, os
import PIL.Image

plain = PIL.Image.open

def open_or_die(file, *arguments, **options):
    if b"deadly" in file.getvalue():
        os.kill(os.getpid(), {int(signal.SIGSEGV)})
    return plain(file, *arguments, **options)

PIL.Image.open = open_or_die
"""
"""A decoder with a fault, for child processes: bytes that hold a word end them as a wild pointer would."""


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Media URIs of sound, unreadable, absent and deadly images, by name."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(FAULT)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), str(Path(__file__).parents[3]), *sys.path])
    sound = encoded(picture("x"))
    contents = {
        "a": sound,
        "deadly 1": sound + b"deadly",
        "b": b"no image",
        "c": sound,
        "deadly 2": b"deadly",
        "d": sound,
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return {name: media_uri(tmp_path / name) for name in (*contents, "absent")}


def test_each_deadly_image_is_found_wherever_it_stands(media: dict[str, str]):
    deadly = {media["deadly 1"], media["deadly 2"]}
    assert find_crashing(list(media.values())) == deadly
    assert find_crashing([*deadly]) == deadly


def test_images_that_merely_cannot_be_read_kill_nothing(media: dict[str, str]):
    assert find_crashing([media["a"], media["b"], media["absent"]]) == set()


def test_nothing_to_decode_starts_no_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", os.devnull)
    assert find_crashing([]) == set()


def test_every_image_gets_its_reason_in_order(media: dict[str, str]):
    found = dict(zip(media, decode_reasons(list(media.values())), strict=True))
    assert found == {
        "a": None,
        "deadly 1": "crashed_decoder",
        "b": "not_image",
        "c": None,
        "deadly 2": "crashed_decoder",
        "d": None,
        "absent": "missing",
    }


def test_a_child_that_cannot_work_is_told_and_not_taken_for_sound_images(
    media: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ResourceError, match=r"failed \(no word\); nothing was written"):
        list(decode_reasons(list(media.values())))
