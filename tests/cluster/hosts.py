"""Hosts on this machine: network namespaces with addresses of their own, which reach each other through a switch and nobody else.

As a program it copies a folder to another place, `s3://` or not: run on a host, it reaches what this machine does not.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.factories import tree
from tests.integration.line import REPOSITORY, Done
from xmadapter import storage

BIN = Path(sys.executable).parent
_DEADLINE_S = 120.0


class Host:
    """A network namespace and what runs in it, with a folder and a log of its own.

    Args:
        name: Of the namespace.
        address: Its own, from 10.0.0.0/8.
        switch: Namespace of the switch.
    """

    def __init__(self, name: str, address: str, switch: str) -> None:
        self.name, self.address = name, address
        # A socket's path may have 107 characters, and Ray adds many.
        self.folder = Path(tempfile.mkdtemp(prefix="xma-"))
        self.log = self.folder / "log"
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH")))),
            "XMADAPTER_CACHE": str(self.folder / "cache"),
        }
        self._switch, self._port = switch, f"port{address.rpartition('.')[2]}"
        self._started: list[subprocess.Popen[Any]] = []
        ip("netns", "add", name)

    def connect(self) -> None:
        """Lay its cable to the switch."""
        ip("link", "add", "eth0", "netns", self.name, "type", "veth", "peer", self._port, "netns", self._switch)
        ip("-n", self._switch, "link", "set", self._port, "master", "switch")
        ip("-n", self.name, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.name, "link", "set", device, "up")
        self.plug()

    def plug(self) -> None:
        """Connect it, or connect it again."""
        ip("-n", self._switch, "link", "set", self._port, "up")

    def unplug(self) -> None:
        """Cut it off: its processes live on, and what they and others send each other is lost without an answer."""
        ip("-n", self._switch, "link", "set", self._port, "down")

    def start(self, *command: object, hidden: Path | None = None) -> None:
        """Start a service; `hidden` is a folder that it finds empty, as if it were on the disk of another machine."""
        alone = ("sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', hidden) if hidden else ()
        with self.log.open("wb") as log:
            self._open((*alone, *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def talk(self, *command: object) -> "subprocess.Popen[str]":
        """Start a command to write to and to read from."""
        return self._open(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def _open(self, command: tuple[object, ...], **streams: Any) -> "subprocess.Popen[Any]":
        words = ["ip", "netns", "exec", self.name, *map(str, command)]
        self._started.append(subprocess.Popen(words, env=self.environment, cwd=self.folder, **streams))
        return self._started[-1]

    def wait_for_line(self, text: str) -> None:
        """Wait until its service says that it is there."""
        deadline = time.monotonic() + _DEADLINE_S
        while text not in (told := self.log.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline, f"{self.address} is not there:\n{told}"
            time.sleep(0.1)

    def processes(self, step: str = "") -> list[psutil.Process]:
        """List those that run here and name a step in their command line, where Ray writes what a worker does."""
        found = []
        for pid in ip("netns", "pids", self.name).split():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                if step in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def hold(self, step: str) -> bool:
        """Stop the processes that are at a step, in the midst of it; False where none is."""
        found = self.processes(step)
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        # One that takes the step between the two looks runs on; one that has left it in between is not in its midst.
        if set(found) & set(self.processes(step)):
            return True
        self.release()
        return False

    def release(self) -> None:
        """Let held processes go on."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def close(self) -> None:
        """End its processes, and no other, and remove it."""
        deadline = time.monotonic() + _DEADLINE_S
        while (left := self.processes()) and time.monotonic() < deadline:
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
        for process in self._started:
            process.communicate()
        ip("netns", "delete", self.name)
        shutil.rmtree(self.folder, ignore_errors=True)


class Driver:
    """One process on a host that runs command after command, as `tests.integration.line.Desk` does here."""

    def __init__(self, host: Host) -> None:
        self._process = host.talk(sys.executable, REPOSITORY / "tests" / "integration" / "desk.py")

    def begin(self, *command: object) -> None:
        """Begin a command and leave it alone."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([str(word) for word in command]) + "\n")
        self._process.stdin.flush()

    def finish(self) -> Done:
        """Wait for the end of the command that was begun."""
        assert self._process.stdout
        done = Done(*json.loads(self._process.stdout.readline()))
        assert done.status == 0, done.err
        return done

    def __call__(self, *command: object) -> Done:
        self.begin(*command)
        return self.finish()


@contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """Make hosts at one switch, with the addresses 10.83.0.1 and so on; whatever they run ends with them."""
    with ExitStack() as stack:
        switch = f"xma{os.getpid()}-switch"
        ip("netns", "add", switch)
        stack.callback(ip, "netns", "delete", switch)
        ip("-n", switch, "link", "add", "switch", "type", "bridge")
        ip("-n", switch, "link", "set", "switch", "up")
        hosts = []
        for number, name in enumerate(names, start=1):
            hosts.append(host := Host(f"xma{os.getpid()}-{name}", f"10.83.0.{number}", switch))
            stack.callback(host.close)
            host.connect()
        yield hosts


def obstacle() -> str | None:
    """Say why this machine cannot have hosts; None where it can."""
    if shutil.which("ip") is None:
        return "no `ip` on this machine: install Debian's iproute2"
    try:
        with network("probe") as (host,):
            ip("netns", "exec", host.name, "mount", "-t", "tmpfs", "tmpfs", str(host.folder))
    except subprocess.CalledProcessError as error:
        return f"this user cannot make network namespaces: {error.stderr.strip()}"
    return None


def ip(*words: str) -> str:
    """Run `ip`, and give what it says."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def _copy(source: str, target: str) -> None:
    remote = storage.is_remote(source)
    names = storage.list_tree(source) if remote else tree(Path(source))
    for name in names:
        if not storage.is_remote(target):
            Path(target, name).parent.mkdir(parents=True, exist_ok=True)
        storage.write_bytes(storage.join(target, name), storage.read_bytes(storage.join(source, name)))


if __name__ == "__main__":
    _copy(*sys.argv[1:])
