"""An autoscaling cluster on this machine, started by the command of cluster/local.yaml, with ports and a token of its own."""

import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path

import yaml

from tests.integration.line import REPOSITORY, Done, end_session

CONFIG = REPOSITORY / "cluster" / "local.yaml"
_BIN = Path(sys.executable).parent
_DEADLINE_S = 240.0
_SETTLED_S = 2.0
Nodes = frozenset[tuple[str, str]]
"""Living workers: type and id of each."""


class AutoscalingCluster:
    """A head without CPUs whose workers come with demand and go when idle.

    Ray's own class of this name needs files that the wheel lacks, and ends every Ray of the machine.
    """

    def __init__(self, *, idle_timeout_s: float) -> None:
        # A socket's path may have 107 characters, and Ray adds many.
        self._folder = Path(tempfile.mkdtemp(prefix="xma-"))
        self.token = secrets.token_hex(32)
        (self._folder / "token").touch(0o600)
        (self._folder / "token").write_text(self.token)
        gcs, dashboard, agent, client = (str(port) for port in free_ports(4))
        self.address, self._seen = f"http://127.0.0.1:{dashboard}", list[Nodes]()
        self.environment = _environment(self._folder / "token")
        ports = ["--port", gcs, "--dashboard-port", dashboard, "--dashboard-agent-listen-port", agent]
        rest = [
            "--ray-client-server-port",
            client,
            "--temp-dir",
            str(self._folder),
            "--object-store-memory",
            "100000000",
        ]
        config = self._write_config(gcs, idle_timeout_s)
        with (self._folder / "head.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*start_command(config), *ports, *rest],
                env=self.environment,
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def _write_config(self, gcs_port: str, idle_timeout_s: float) -> Path:
        """The shipped file, but for its port, its patience, and one node of each type: two cores run all of this."""
        values = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
        # Ray knows this machine by the address that it reaches others from; nothing is sent.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 1))
            values["provider"]["gcs_address"] = f"{probe.getsockname()[0]}:{gcs_port}"
        values["idle_timeout_minutes"] = idle_timeout_s / 60
        for pool in ("cpu", "gpu"):
            values["available_node_types"][pool]["max_workers"] = 1
        path = self._folder / "local.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    def wait(self) -> None:
        """Wait until jobs are taken, then watch the nodes."""
        self.wait_until(lambda: self.status("/api/jobs/", self.token) == 200)
        self._watcher.start()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not condition():
            assert self._process.poll() is None, f"the head ended:\n{(self._folder / 'head.log').read_text()}"
            assert time.monotonic() < deadline, f"not within {_DEADLINE_S} s; nodes were {self._seen[-1:]}"
            time.sleep(0.2)

    def status(self, path: str, token: str | None) -> int:
        """HTTP status of a request to the head; 0 where nobody answers."""
        try:
            with self._asked(path, token) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def _watch(self) -> None:
        while not self._over.wait(1):
            self._seen.append(self.nodes())

    def _asked(self, path: str, token: str | None, method: str = "GET", body: object = None) -> HTTPResponse:
        headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, headers, method=method)
        return urllib.request.urlopen(request, timeout=30)

    def stop(self, name: str) -> None:
        """Do what `ray job stop` and `ray job delete` do; a head that still watches the job writes it down once more."""
        self._asked(f"/api/jobs/{name}/stop", self.token, "POST").close()
        absent_since: float | None = None

        def gone_for_good() -> bool:
            nonlocal absent_since
            if self.status(f"/api/jobs/{name}", self.token) == 404:
                absent_since = absent_since or time.monotonic()
                return time.monotonic() - absent_since > _SETTLED_S
            absent_since = None
            with suppress(urllib.error.HTTPError):  # it does not stop at once
                self._asked(f"/api/jobs/{name}", self.token, "DELETE").close()
            return False

        self.wait_until(gone_for_good)

    def nodes(self) -> Nodes:
        """Workers that live now."""
        with self._asked("/api/v0/nodes?detail=1", self.token) as reply:
            rows = json.load(reply)["data"]["result"]["result"]
        return frozenset(
            ("gpu" if row["resources_total"].get("GPU") else "cpu", row["node_id"])
            for row in rows
            if row["state"] == "ALIVE" and not row["is_head_node"]
        )

    def seen(self) -> list[Nodes]:
        """What was seen since the last call, without repetitions."""
        seen, self._seen = self._seen, []
        return [now for before, now in zip([None, *seen], seen, strict=False) if now != before]

    def submit(self, name: str, *command: object) -> Done:
        """Submit a job as a user does, and follow it to its end."""
        return self.ray("job", "submit", "--submission-id", name, "--", "python", "-m", *command)

    def begin(self, name: str, *command: object) -> None:
        """Submit a job and leave it alone, without the seconds that the command takes to start."""
        entrypoint = shlex.join(["python", "-m", *map(str, command)])
        body = {"entrypoint": entrypoint, "submission_id": name}
        self._asked("/api/jobs/", self.token, "POST", body).close()

    def ray(self, *words: object) -> Done:
        done = subprocess.run(
            [str(_BIN / "ray"), *map(str, words)],
            env=self.environment | {"RAY_API_SERVER_ADDRESS": self.address},
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def close(self) -> None:
        """End the processes that this one began, and no other."""
        self._over.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._process.kill()
        end_session(self._process)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def start_command(config: Path) -> list[str]:
    """The command that the shipped file gives, for another file."""
    (line,) = (line for line in CONFIG.read_text(encoding="utf-8").splitlines() if " ray start " in line)
    words = shlex.split(line.removeprefix("#"))
    command = words[words.index("ray") :]
    return [str(_BIN / "ray"), *(word.replace("cluster/local.yaml", str(config)) for word in command[1:])]


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _environment(token: Path) -> dict[str, str]:
    """Of the head, of its workers and of the commands."""
    python = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    mine = {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": python,
        "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
    }
    return os.environ | mine
