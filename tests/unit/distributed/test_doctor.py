"""A cluster check: what each fault of a node, of the head or of the tracking server is told as."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from xmadapter.config import TrackingConfig
from xmadapter.distributed.doctor import NodeFacts, ask_head, ask_tracking, judge, node_facts

DRIVER = NodeFacts(
    place="driver", python="3.11", libraries={"ray": "2.60.0", "torch": "2.15.0"}, clock_s=1000.0, asked_s=(999.0, 1001.0),
    token_mode="token",
)  # fmt: skip
NODE = replace(DRIVER, place="gpu-1", declared_gpus=1, visible_gpus=1)


def failed(*nodes: NodeFacts) -> list[tuple[str, str]]:
    return [(finding.check, finding.place) for finding in judge(DRIVER, nodes) if finding.state == "fail"]


def test_a_sound_cluster_passes_each_check_on_each_node():
    findings = judge(DRIVER, [NODE, replace(NODE, place="gpu-2")])
    assert {finding.state for finding in findings} == {"ok"}
    assert [finding.check for finding in findings if finding.place == "gpu-2"] == [
        "versions", "token", "clock", "gpu", "store",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        ({"python": "3.12"}, "versions", "python 3.12 instead of 3.11"),
        ({"libraries": {"ray": "2.60.0", "torch": "2.14.0"}}, "versions", "torch 2.14.0 instead of 2.15.0"),
        ({"libraries": {"ray": "2.60.0"}}, "versions", "torch absent instead of 2.15.0"),
        ({"libraries": {**DRIVER.libraries, "pillow": "12.3"}}, "versions", "pillow 12.3 instead of absent"),
        ({"token_mode": None}, "token", "RAY_AUTH_MODE is not set"),
        ({"token_mode": "disabled"}, "token", "RAY_AUTH_MODE is disabled"),
        ({"token_for_all": "/home/ray/.ray/auth_token"}, "token", "chmod 600"),
        ({"clock_s": 993.0}, "clock", "6 s off"),
        ({"clock_s": 1007.0}, "clock", "6 s off"),
        ({"visible_gpus": 0}, "gpu", "Ray counts 1, torch sees none"),
        ({"store_failure": "the disk is full"}, "store", "the disk is full"),
    ],
)
def test_one_fault_of_a_node_fails_one_check_and_says_what_to_do(change, check, words):
    node = replace(NODE, **change)
    assert failed(node) == [(check, "gpu-1")]
    (told,) = (str(finding) for finding in judge(DRIVER, [node]) if finding.state == "fail")
    assert words in told
    assert "\n" not in told


def test_a_node_that_answers_late_has_no_wrong_clock():
    assert failed(replace(NODE, asked_s=(999.0, 1600.0), clock_s=1590.0)) == []


def test_nodes_that_share_the_store_read_what_the_driver_wrote(tmp_path):
    marker = f"{tmp_path}/store/.doctor"
    assert node_facts("driver", marker, write=True).store_failure is None
    assert node_facts("gpu-1", marker).store_failure is None
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        ".doctor",
        ".doctor-driver",
        ".doctor-gpu-1",
    ]


def test_a_folder_of_the_same_name_on_another_disk_is_no_shared_store(tmp_path):
    failure = node_facts("gpu-1", f"{tmp_path}/store/.doctor").store_failure
    assert failure == f"{tmp_path}/store is not the driver's; mount one file system on every node, or use a bucket"


def test_a_store_that_cannot_be_written_is_told_with_its_reason(tmp_path):
    (tmp_path / "store").write_text("a file")
    failure = node_facts("driver", f"{tmp_path}/store/.doctor", write=True).store_failure
    assert failure is not None
    assert str(tmp_path) in failure


def test_a_token_that_others_can_read_is_found(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("secret")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    found = {}
    for mode in (0o644, 0o600):
        token.chmod(mode)
        found[mode] = node_facts("driver", f"{tmp_path}/.doctor", write=True).token_for_all
    assert found == {0o644: str(token), 0o600: None}


@contextmanager
def head(status: int) -> Iterator[str]:
    """A dashboard that answers every request alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "state"), [(200, "fail"), (404, "fail"), (401, "ok"), (403, "ok")])
def test_a_head_must_refuse_who_shows_no_token(status, state):
    with head(status) as address:
        assert ask_head(address).state == state


def test_a_head_that_does_not_answer_is_worth_a_warning():
    finding = ask_head("http://127.0.0.1:1")
    assert (finding.state, finding.check) == ("warn", "token")


def test_a_tracking_server_that_is_down_is_told_without_its_password():
    finding = ask_tracking(TrackingConfig(uri="http://someone:secret@127.0.0.1:1"))
    assert finding.state == "fail"
    assert "secret" not in str(finding)
