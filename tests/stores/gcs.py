"""A small server on loopback that speaks enough of Google Cloud Storage's JSON API, and has its faults."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "bucket"
PAGE = 50  # names of a listing's page


@dataclass
class Bucket:
    """What lies in the store, and what goes wrong.

    Args:
      objects: name -> generation and bytes.
      fault: of each request: None, or a status to answer with; `cut` ends the connection instead, `late` does so when
        the request was carried out, `slow` answers after half a second.
    """

    url: str = ""
    objects: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    fault: dict[str, object] = field(default_factory=dict)  # method -> the fault of all its requests
    before: Callable[[str], None] | None = None  # told of each request before it is carried out
    heard: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    generation: int = 1000

    def names(self, part: str = "") -> list[str]:
        return sorted(name for name in self.objects if part in name)

    def put(self, name: str, data: bytes) -> int:
        with self.lock:
            self.generation += 1
            self.objects[name] = self.generation, data
            return self.generation


@contextmanager
def served() -> Iterator[Bucket]:
    bucket = Bucket()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # an answer goes out at once

        def log_message(self, *_):
            pass

        def answer(self, code, body=b"", **headers):
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle_one(self):
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = f"{self.command} {unquote(parts.path)}?{unquote(parts.query)}"
            bucket.heard.append(request)
            if bucket.before is not None:
                bucket.before(request)
            fault = bucket.fault.get(self.command)
            if fault == "slow":
                time.sleep(0.5)
            elif isinstance(fault, int):
                return self.answer(fault, b"{}")
            elif fault == "cut":
                self.close_connection = True
                return self.connection.shutdown(2)
            place = parts.path.removeprefix("/upload").removeprefix("/storage/v1/b/").split("/", 2)
            if place[0] != BUCKET:
                return self.answer(404, b"{}")
            name = unquote(place[2]) if len(place) > 2 else asked.get("name", "")
            made = self.carried_out(name, asked, body, len(place) == 2 and self.command == "GET")
            if fault == "late":
                self.close_connection = True
                return self.connection.shutdown(2)
            code, body, headers = made
            self.answer(code, body, **headers)

        def carried_out(self, name, asked, body, listing):
            if listing:
                return 200, listed(bucket, asked), {}
            with bucket.lock:
                now, data = bucket.objects.get(name, (0, b""))
            if "ifGenerationMatch" in asked and int(asked["ifGenerationMatch"]) != now:
                return 412, b"{}", {}
            if self.command == "POST":
                return 200, json.dumps({"name": name, "generation": str(bucket.put(name, body))}).encode(), {}
            if not now:
                return 404, b"{}", {}
            if self.command == "DELETE":
                del bucket.objects[name]
                return 204, b"", {}
            if asked.get("ifGenerationNotMatch") == str(now):
                return 304, b"", {}
            if (span := self.headers.get("Range")) is None:
                return 200, data, {"x_goog_generation": now}
            first, _, last = span.removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last) + 1 if last else None]
            if not part:
                return 416, b"", {}
            span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
            return 206, part, {"x_goog_generation": now, "Content_Range": span}

        do_GET = do_POST = do_DELETE = handle_one

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    bucket.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def listed(bucket, asked):
    with bucket.lock:
        found = sorted((name, len(data)) for name, (_, data) in bucket.objects.items())
    prefix, since, before = (asked.get(name, "") for name in ("prefix", "startOffset", "endOffset"))
    found = [one for one in found if one[0].startswith(prefix) and one[0] >= since and (not before or one[0] < before)]
    first = int(asked.get("pageToken", 0))
    items = [{"name": name, "size": str(size)} for name, size in found[first : first + PAGE]]
    more = {"nextPageToken": str(first + PAGE)} if len(found) > first + PAGE else {}
    return json.dumps({"items": items} | more).encode()
