"""A stand-in for the Hub's HTTP API on loopback: as much of it as pushing and pulling a model needs, recorded.

Repositories live in memory. A card's metadata pass if huggingface_hub's own reading of them does, and if each result
names its task, its data set and its metrics, as the Hub demands.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

TOKEN = "hf_stand_in_token_0123456789abcdefghij"


@dataclass
class Repo:
    """One repository: who sees it, its files, and how many commits made them."""

    private: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0

    @property
    def sha(self) -> str:
        return hashlib.sha1(f"{self.commits}{sorted(self.files)}".encode()).hexdigest()


class StandIn:
    """The server, its repositories, all requests as (method, path, body), and what is to go wrong.

    `breaks` maps the beginning of "METHOD /path" to a status to answer with, or to None for a dropped connection.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, bytes]] = []
        self.breaks: dict[str, int | None] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                owner.answer(self)

            do_GET = do_HEAD = do_POST = do_PUT = handle_any

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def asked(self, method: str) -> list[str]:
        """Paths of the requests with that method."""
        return [path for verb, path, _ in self.requests if verb == method]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = _read(request)
        path = unquote(urlsplit(request.path).path)
        self.requests.append((request.command, path, body))
        line = f"{request.command} {path}"
        for beginning, status in self.breaks.items():
            if line.startswith(beginning):
                if status is None:
                    request.connection.close()
                    request.close_connection = True
                    return
                return _send(request, status, {"error": "Something broke."})
        if path.startswith("/lfs/"):  # a signed address: the real one takes no token either
            return self._store(request, path.removeprefix("/lfs/"), body)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _send(request, 401, {"error": "Invalid credentials in Authorization header"})
        if path == "/api/validate-yaml":
            return _validate(request, json.loads(body)["content"])
        if path == "/api/repos/create":
            return self._create(request, json.loads(body))
        if path.startswith("/api/models/"):
            user, name, *rest = path.removeprefix("/api/models/").split("/")
            return self._model(request, f"{user}/{name}", rest, body)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(request, json.loads(body))
        user, name, _, _, file = path.strip("/").split("/", 4)
        return self._file(request, f"{user}/{name}", file)

    def _create(self, request: BaseHTTPRequestHandler, asked: dict) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repos:
            return _send(request, 409, {"error": "You already created this model repo"})
        self.repos[name] = Repo(private=asked["visibility"] == "private")
        _send(request, 200, {"url": f"{self.url}/{name}", "name": name})

    def _model(self, request: BaseHTTPRequestHandler, name: str, rest: list[str], body: bytes) -> None:
        repo = self.repos.get(name)
        if repo is None:
            return _send(request, 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        action = rest[0] if rest else "revision"
        if action == "revision":
            siblings = [{"rfilename": file} for file in sorted(repo.files)]
            return _send(request, 200, {"id": name, "sha": repo.sha, "private": repo.private, "siblings": siblings})
        if action == "tree":
            entries = [
                {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for file, content in sorted(repo.files.items())
            ]
            return _send(request, 200, entries)
        if action == "preupload":
            files = [
                {"path": file["path"], "uploadMode": _mode(file["path"]), "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return _send(request, 200, {"files": files})
        if action != "commit":
            return _send(request, 404, {"error": f"The stand-in has no {action}"})
        for line in body.splitlines():
            value = json.loads(line)["value"]
            if "content" in value:
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif "oid" in value:
                repo.files[value["path"]] = self.stored[value["oid"]]
        repo.commits += 1
        address = f"{self.url}/{name}/commit/{repo.sha}"
        _send(request, 200, {"commitUrl": address, "commitOid": repo.sha})

    def _batch(self, request: BaseHTTPRequestHandler, asked: dict) -> None:
        objects = []
        for one in asked["objects"]:
            action = {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}
            objects.append({**one, **({} if one["oid"] in self.stored else {"actions": action})})
        _send(request, 200, {"transfer": "basic", "objects": objects})

    def _store(self, request: BaseHTTPRequestHandler, oid: str, body: bytes) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.stored[oid] = body
        _send(request, 200, {})

    def _file(self, request: BaseHTTPRequestHandler, name: str, file: str) -> None:
        repo = self.repos.get(name)
        if repo is None or file not in repo.files:
            return _send(request, 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        content = repo.files[file]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        _send(request, 200, content, {"ETag": etag, "X-Repo-Commit": repo.sha})


def _mode(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", ".png", ".bin")) else "regular"


def _validate(request: BaseHTTPRequestHandler, content: str) -> None:
    """Refuse what the Hub refuses: unreadable metadata, a model-index without task, data set or metrics."""
    try:
        metadata = ModelCard(content).data.to_dict()
        for model in metadata.get("model-index", []):
            model_index_to_eval_results([model])
            for result in model["results"]:
                assert result["task"]["type"] and result["dataset"]["name"] and result["dataset"]["type"]
                assert all(isinstance(metric["value"], float) and metric["type"] for metric in result["metrics"])
        assert isinstance(metadata.get("license", "mit"), str)
    except Exception as error:
        return _send(request, 400, {"errors": [{"message": f"metadata: {error}"}], "warnings": []})
    _send(request, 200, {"errors": [], "warnings": []})


def _read(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


def _send(request: BaseHTTPRequestHandler, status: int, content: object, headers: dict | None = None) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
