"""A real MLflow server that tests may kill, and a gate before it that loses replies and asks for a password."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.integration.services import server

_DEADLINE_S = 90.0
Fault = Callable[[str, str], str | None]
"""What goes wrong with a request of this method and path: a status, `lost` for a reply that never comes, or nothing."""


class MlflowServer:
    """`mlflow server` on a database in a folder, always at the same port of 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.database = f"sqlite:///{folder}/mlflow.db"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options, "--backend-store-uri", self.database,
             "--artifacts-destination", str(self._folder / "artifacts")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        if wait:
            wait_for(self.address)

    def kill(self) -> None:
        """SIGKILL it and the workers it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None


def wait_for(address: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@contextmanager
def gate(address: str, fault: Fault, *, login: str | None = None) -> Iterator[str]:
    """Pass requests on to a server, but for the faults; with `login` (user:password) as a server with basic auth does."""
    expected = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if expected is not None and request.headers.get("authorization") != expected:
            return 401, {"www-authenticate": 'Basic realm="mlflow"'}, b"You are not authenticated."
        kind = fault(request.command, request.path)
        if kind is not None and kind.isdigit():
            return int(kind), {"content-type": "text/html"}, b"<html><body>Sorry.</body></html>"
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        passed = urllib.request.Request(f"{address}{request.path}", body or None, headers, method=request.command)
        try:
            with urllib.request.urlopen(passed, timeout=60) as reply:
                found = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            found = error.code, error.read()
        return 0 if kind == "lost" else found[0], {"content-type": "application/json"}, found[1]

    with server(answer) as gated:
        yield gated
