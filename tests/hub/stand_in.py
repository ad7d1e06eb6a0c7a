"""A local stand-in for the Hub: the endpoints that pushing and pulling a model call.

Repositories live in memory. What a client sends is checked as the Hub checks it: a token, the
SHA-256 of large files, the metadata of README.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.hub.metadata import problems_of

USER = "me"
Files = dict[str, bytes]


class HubStandIn(ThreadingHTTPServer):
    """The server and what it holds.

    Attributes:
        url: what ``HF_ENDPOINT`` is set to.
        commits: repository → its commits, oldest first: (hash, message, all files).
        large: the paths that were stored as large files.
        failing: endpoints ("commit", "create", "preupload", "batch", "resolve") that answer 500.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.commits: dict[str, list[tuple[str, str, Files]]] = {}
        self.blobs: dict[str, bytes] = {}
        self.large: set[str] = set()
        self.failing: set[str] = set()

    def files(self, repo: str, revision: str = "main") -> Files | None:
        """The files of a commit, None if there is no such repository or commit."""
        commits = self.commits.get(repo)
        if commits is None:
            return None
        if revision == "main":
            return commits[-1][2]
        return next((files for sha, _, files in commits if sha == revision), None)

    def add_commit(self, repo: str, message: str, files: Files) -> str:
        seed = f"{repo}{len(self.commits[repo])}{message}"
        sha = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[repo].append((sha, message, files))
        return sha


class _Handler(BaseHTTPRequestHandler):
    server: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self._dispatch("POST")

    def do_PUT(self) -> None:
        self._dispatch("PUT")

    def do_GET(self) -> None:
        self._dispatch("GET")

    def do_HEAD(self) -> None:
        self._dispatch("HEAD")

    def _dispatch(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)  # before any answer, or the next request starts in it
        path = urlsplit(self.path).path
        for verbs, pattern, name in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method in verbs:
                if name in self.server.failing:
                    self._json({"error": "the stand-in was told to fail"}, status=500)
                elif method in ("POST", "PUT") and name != "blob" and not self._has_token():
                    self._json({"error": "no token"}, status=401)
                else:
                    getattr(self, f"_{name}")(body, *(unquote(part) for part in match.groups()))
                return
        self._json({"error": f"the stand-in has no {method} {path}"}, status=404)

    def _has_token(self) -> bool:
        return self.headers.get("Authorization", "").startswith("Bearer ")

    # -- pushing -----------------------------------------------------------------------------

    def _create(self, body: bytes) -> None:
        wanted = json.loads(body)
        repo = f"{wanted['organization'] or USER}/{wanted['name']}"
        status = 409 if repo in self.server.commits else 200
        if status == 200:
            self.server.commits[repo] = []
            self.server.add_commit(repo, "initial commit", {".gitattributes": b"*.bin lfs\n"})
        self._json({"url": f"{self.server.url}/{repo}", "name": repo, "id": repo}, status)

    def _validate(self, body: bytes) -> None:
        problems = problems_of(json.loads(body)["content"])
        self._json({"errors": [{"message": p} for p in problems]}, 400 if problems else 200)

    def _preupload(self, body: bytes, repo: str, revision: str) -> None:
        if self.server.files(repo) is None:
            return self._no_repository()
        return self._json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if _is_large(file) else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(body)["files"]
                ]
            }
        )

    def _batch(self, body: bytes, repo: str) -> None:
        objects = []
        for wanted in json.loads(body)["objects"]:
            entry: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.server.blobs:
                entry["actions"] = {"upload": {"href": f"{self.server.url}/blobs/{wanted['oid']}"}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def _blob(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._json({"error": "the content does not have this SHA-256"}, status=400)
        self.server.blobs[oid] = body
        return self._json({})

    def _commit(self, body: bytes, repo: str, revision: str) -> None:
        before = self.server.files(repo)
        if before is None:
            return self._no_repository()
        files, message = dict(before), ""
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                content = self.server.blobs.get(value["oid"])
                if content is None or len(content) != value["size"]:
                    return self._json({"error": f"{value['path']} was not uploaded"}, status=400)
                files[value["path"]] = content
                self.server.large.add(value["path"])
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        readme = files.get("README.md", b"").decode()
        problems = problems_of(readme) if readme else []
        if problems:
            return self._json({"error": "; ".join(problems)}, status=400)
        sha = self.server.add_commit(repo, message, files)
        url = f"{self.server.url}/{repo}/commit/{sha}"
        return self._json({"commitUrl": url, "commitOid": sha, "pullRequestUrl": None})

    # -- pulling -----------------------------------------------------------------------------

    def _info(self, body: bytes, repo: str, revision: str | None = None) -> None:
        files = self.server.files(repo, revision or "main")
        if files is None:
            return self._no_repository()
        sha = self._sha(repo, revision or "main")
        siblings = [{"rfilename": path} for path in files]
        return self._json({"id": repo, "sha": sha, "siblings": siblings, "tags": []})

    def _tree(self, body: bytes, repo: str, revision: str, folder: str | None = None) -> None:
        files = self.server.files(repo, revision)
        if files is None:
            return self._no_repository()
        prefix = f"{folder.strip('/')}/" if folder else ""
        entries = [
            {"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
            for p, c in files.items()
            if p.startswith(prefix)
        ]
        if prefix and not entries:
            return self._missing("EntryNotFound")
        return self._json(entries)

    def _resolve(self, body: bytes, repo: str, revision: str, path: str) -> None:
        files = self.server.files(repo, revision)
        if files is None:
            return self._no_repository()
        if path not in files:
            return self._missing("EntryNotFound", self._sha(repo, revision))
        content = files[path]
        self.send_response(200)
        self.send_header("X-Repo-Commit", self._sha(repo, revision))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        return None

    def _sha(self, repo: str, revision: str) -> str:
        return self.server.commits[repo][-1][0] if revision == "main" else revision

    # -- answers -----------------------------------------------------------------------------

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _no_repository(self) -> None:
        self._missing("RepoNotFound")

    def _missing(self, code: str, sha: str | None = None) -> None:
        headers = {"X-Error-Code": code} | ({"X-Repo-Commit": sha} if sha else {})
        self._json({"error": code}, status=404, headers=headers)


def _is_large(file: dict[str, Any]) -> bool:
    return file["path"].endswith((".safetensors", ".bin"))


_REPO = r"([^/]+/[^/]+)"
_ROUTES = (
    (("POST",), "/api/repos/create", "create"),
    (("POST",), "/api/validate-yaml", "validate"),
    (("POST",), rf"/api/models/{_REPO}/preupload/([^/]+)", "preupload"),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", "batch"),
    (("PUT",), r"/blobs/(\w+)", "blob"),
    (("POST",), rf"/api/models/{_REPO}/commit/([^/]+)", "commit"),
    (("GET",), rf"/api/models/{_REPO}", "info"),
    (("GET",), rf"/api/models/{_REPO}/revision/([^/]+)", "info"),
    (("GET",), rf"/api/models/{_REPO}/tree/([^/]+)", "tree"),
    (("GET",), rf"/api/models/{_REPO}/tree/([^/]+)/(.+)", "tree"),
    (("HEAD", "GET"), rf"/{_REPO}/resolve/([^/]+)/(.+)", "resolve"),
)


@contextmanager
def running_hub() -> Iterator[HubStandIn]:
    """Serve on a free port of this machine until the block is left."""
    hub = HubStandIn()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
