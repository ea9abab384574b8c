"""A Hugging Face hub on 127.0.0.1, in memory: files with ranges, gated and missing repositories, cut connections, commits."""

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class LoopbackHub:
    """What the hub has and does.

    Attributes:
        files: content by path, "org/name/folder/file".
        gated: repositories that need accepted terms.
        accepted: tokens of users who have accepted them.
        cdn_tokens: token of each request to the host of large files.
        cuts: number of bytes after which each of the next answers is cut.
        sha256: stated hash of a file, where it is not that of the content.
        asked: method, path and range of each request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.gated: set[str] = set()
        self.accepted: set[str] = set()
        self.cdn_tokens: list[str] = []
        self.cuts: list[int] = []
        self.sha256: dict[str, str] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.url = ""

    def downloads(self) -> list[tuple[str, str]]:
        """Path and range of each download of weights."""
        return [(path, span) for method, path, span in self.asked if method == "GET" and path.startswith("cdn/")]

    @contextmanager
    def serving(self) -> Iterator["LoopbackHub"]:
        """Serve in a thread."""
        handler = type("Handler", (_Handler,), {"hub": self})
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            yield self
            server.shutdown()


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, cache: object) -> None:
    """Let the hub library of this process use another hub and cache; it reads HF_ENDPOINT and HF_HOME only on import."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", url)
    for module in (constants, huggingface_hub.file_download):  # versions before 1.0 import it by name
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # of 10 MB: what is lost of a cut download
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: LoopbackHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0].lstrip("/")
        hub.asked.append((self.command, path, self.headers.get("Range", "")))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if path.startswith("cdn/"):
            hub.cdn_tokens.append(token)
            return self.content(path.removeprefix("cdn/"))
        if path.startswith("api/models/"):
            return self.answer(200, json.dumps({"id": "/".join(path.split("/")[2:4]), "sha": COMMIT, "siblings": []}).encode())
        repository, resolve, name = path.partition("/resolve/")
        name = f"{repository}/{name.partition('/')[2]}"
        if repository in hub.gated and token not in hub.accepted:
            return self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if not resolve or not any(file.startswith(f"{repository}/") for file in hub.files):
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if name not in hub.files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        digest = hub.sha256.get(name) or hashlib.sha256(hub.files[name]).hexdigest()
        if not name.endswith(".safetensors"):
            return self.content(name, {"X-Repo-Commit": COMMIT, "ETag": f'"{digest[:40]}"'})
        headers = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(hub.files[name])), "X-Repo-Commit": COMMIT}
        location = f"{hub.url.replace('127.0.0.1', 'localhost')}/cdn/{name}"  # large files are on another host
        return self.answer(302, b"", {**headers, "Location": location})

    def content(self, name: str, headers: dict[str, str] | None = None) -> None:
        """Send a file from the start of the asked range."""
        content = memoryview(self.hub.files[name])  # a slice is no copy: files may have gigabytes
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        self.answer(206 if start else 200, content[start:], {**(headers or {}), **span})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.asked.append(("POST", self.path, ""))
        parts = self.path.strip("/").split("/")
        if parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            return self.answer(200, json.dumps({"url": f"{self.hub.url}/{name}", "name": name}).encode())
        if "preupload" in parts:
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.answer(200, json.dumps({"files": files}).encode())
        if "commit" in parts:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.hub.files["/".join([*parts[2:4], line["value"]["path"]])] = base64.b64decode(line["value"]["content"])
            url = f"{self.hub.url}/{'/'.join(parts[2:4])}/commit/{COMMIT}"
            return self.answer(200, json.dumps({"commitUrl": url, "commitOid": COMMIT}).encode())
        return self.answer(200, b"{}")

    def answer(self, status: int, body: bytes | memoryview, headers: dict[str, str] | None = None) -> None:
        """Send headers and body, of which a part is missing if the connection is to be cut."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            cut = self.hub.cuts.pop(0) if self.hub.cuts and self.path.startswith("/cdn/") else len(body)
            self.wfile.write(body[:cut])

    def log_message(self, format: str, *args: object) -> None:
        pass
