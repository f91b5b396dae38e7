"""Services with buckets, on this machine: moto's S3, a server that speaks just enough of Google's, and any that misbehave."""

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xmadapter.storage import buckets

BUCKET = "pets"


@contextmanager
def moto() -> Iterator[str]:
    """Serve S3 with one bucket."""
    # Half a second that other tests need not wait for.
    from moto.server import ThreadedMotoServer

    service = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    service.start()
    host, port = service.get_host_and_port()
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/{BUCKET}", method="PUT")).close()
    yield f"http://{host}:{port}"
    service.stop()


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Lead this process to a service, by the environment."""
    variables = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    google = {
        "gcs_base_url": endpoint,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    variables |= {"AWS_ENDPOINT_URL": endpoint, "GOOGLE_BASE_URL": endpoint}
    for name, value in (variables | {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(google)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(buckets, "_RETRY", {"max_retries": 2})


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler, bytes], tuple[int, dict[str, str], bytes]]) -> Iterator[str]:
    """Serve whatever `answer` says to a request and its body: status, headers, body; status 0 hangs up without a reply."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            status, headers, body = answer(self, self.rfile.read(int(self.headers.get("content-length") or 0)))
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in ({"content-length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815  names that http.server looks for

        def log_message(self, format: str, *arguments: object) -> None:
            return

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


class Bucket:
    """A service with one bucket in memory; `conditions` are the headers by which it creates only what is absent."""

    def __init__(self, conditions: dict[str, str]) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self._conditions, self._lock = conditions, threading.Lock()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            if request.command == "PUT":
                return self._put(request, body)
            if request.command == "DELETE":
                return (204, {}, b"") if self.objects.pop(request.path, None) else (404, {}, b"")
            if request.command == "POST":
                key = body.decode().partition("<Key>")[2].partition("</Key>")[0]
                del self.objects[f"/{BUCKET}/{key}"]
                return 200, {}, f"<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>".encode()
            if request.path not in self.objects:
                return 404, {}, b""
            data, headers = self.objects[request.path]
            headers = headers | {"last-modified": "Sun, 06 Nov 1994 08:49:37 GMT", "etag": f'"{hash(data)}"'}
            if asked := request.headers.get("range"):
                first, last = (int(end) for end in asked.removeprefix("bytes=").split("-"))
                part = data[first : last + 1]
                return 206, headers | {"content-range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"}, part
            return 200, headers | {"content-length": str(len(data))}, data

    def _put(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked = any(request.headers.get(name) == value for name, value in self._conditions.items())
        if asked and request.path in self.objects:
            return 412, {}, b""
        kept = {name: value for name, value in request.headers.items() if "-meta-" in name}
        self.objects[request.path] = (body, kept)
        return 200, {"etag": '"1"'}, b""


S3_CONDITION, GOOGLE_CONDITION = {"if-none-match": "*"}, {"x-goog-if-generation-match": "0"}
