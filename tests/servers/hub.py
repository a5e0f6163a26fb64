"""The part of the Hugging Face Hub's API that `huggingface_hub` and `hf` need to create, commit, tag and download.

    with Hub(folder) as hub:
        hub.url             for HF_ENDPOINT

Repositories are real: a commit is a tree of git blobs and LFS objects, with the digests that git and LFS give them.
Large files are answered with a redirect, as the Hub does. Writing needs a token, any without `bad` in it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.servers.repositories import LFS_BYTES, LFS_SUFFIXES, Entry, Repository, Storage
from tests.servers.static import Handler, Server

REPOSITORY = r"(?P<repo>[\w.-]+/[\w.-]+)"


class HubHandler(Handler):
    """Routes are tried in turn: a method, a pattern, the handler's name."""

    ROUTES = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("GET", r"/api/whoami-v2", "whoami"),
        ("GET", rf"/api/models/{REPOSITORY}(/revision/(?P<revision>[^/]+))?", "info"),
        ("GET", rf"/api/models/{REPOSITORY}/tree/(?P<revision>[^/]+)(/(?P<path>.*))?", "tree"),
        ("POST", rf"/api/models/{REPOSITORY}/paths-info/(?P<revision>[^/]+)", "paths_info"),
        ("GET", rf"/api/models/{REPOSITORY}/refs", "refs"),
        ("POST", rf"/api/models/{REPOSITORY}/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", rf"/api/models/{REPOSITORY}/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", rf"/api/models/{REPOSITORY}/tag/(?P<revision>[^/]+)", "tag"),
        ("DELETE", rf"/api/models/{REPOSITORY}/tag/(?P<revision>[^/]+)", "untag"),
        ("POST", rf"/{REPOSITORY}\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/(?P<sha256>[0-9a-f]{64})", "lfs_put"),
        ("POST", r"/lfs/verify", "lfs_verify"),
        ("GET", r"/cdn/(?P<sha256>[0-9a-f]{64})", "cdn"),
        ("GET", rf"/{REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    )
    WRITES = ("create", "preupload", "commit", "tag", "untag", "lfs_batch")

    def route(self) -> None:
        self.data = self.body()
        target = urlsplit(self.path)
        self.query = parse_qs(target.query)
        method = "GET" if self.command == "HEAD" else self.command
        for verb, pattern, name in self.ROUTES:
            if verb == method and (found := re.fullmatch(pattern, target.path)):
                if name in self.WRITES and not self.may_write():
                    self.refuse(HTTPStatus.UNAUTHORIZED, "Invalid username or password.")
                    return
                getattr(self, name)(**{key: unquote(value or "") for key, value in found.groupdict().items()})
                return
        self.refuse(HTTPStatus.NOT_FOUND, f"no {method} {target.path} here")

    def may_write(self) -> bool:
        return self.headers.get("Authorization", "bad").find("bad") < 0

    def reply(self, data: Any, status: int = HTTPStatus.OK, **headers: str) -> None:
        self.answer(status, json.dumps(data).encode(), Content_Type="application/json", **headers)

    def refuse(self, status: int, message: str, code: str = "") -> None:
        self.reply({"error": message}, status, X_Error_Message=message, **({"X_Error_Code": code} if code else {}))

    def found(self, repo: str, revision: str) -> tuple[str, dict[str, Entry]] | None:
        """The commit that was asked for; None once its absence was answered."""
        repository = self.server.repositories.get(repo)
        if repository is None:
            self.refuse(HTTPStatus.NOT_FOUND, "Repository not found", "RepoNotFound")
            return None
        if (commit := repository.at(revision or "main")) is None:
            self.refuse(HTTPStatus.NOT_FOUND, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def create(self) -> None:
        asked = json.loads(self.data)
        repo = f"{asked.get('organization') or 'user'}/{asked['name']}"
        with self.server.lock:
            there = repo in self.server.repositories
            if not there:
                self.server.repositories[repo] = Repository()
                self.server.repositories[repo].commit(
                    {".gitattributes": self.server.keep(b"*.onnx filter=lfs\n", False)}
                )
        answer = {"url": f"{self.server.url}/{repo}", "name": repo, "id": repo}
        if there:
            self.reply({"error": "You already created this model repo", **answer}, HTTPStatus.CONFLICT)
        else:
            self.reply(answer)

    def validate(self) -> None:
        self.reply({"errors": [], "warnings": []})

    def whoami(self) -> None:
        self.reply({"type": "user", "name": "user", "orgs": [], "auth": {"type": "access_token"}})

    def info(self, repo: str, revision: str) -> None:
        if commit := self.found(repo, revision):
            repository, (sha, files) = self.server.repositories[repo], commit
            order = [entry[0] for entry in repository.commits].index(sha)
            siblings = [
                {"rfilename": path, **(self.described(path, files[path]) if "blobs" in self.query else {})}
                for path in files
            ]
            self.reply(
                {
                    "_id": repo, "id": repo, "modelId": repo, "sha": sha, "siblings": siblings,
                    "private": False, "gated": "manual" if repository.gated else False, "disabled": False,
                    "tags": [], "downloads": 0, "likes": 0, "cardData": self.card(files),
                    "createdAt": "2026-01-01T00:00:00.000Z",
                    "lastModified": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(1_767_225_600 + order)),
                }
            )  # fmt: skip

    def card(self, files: dict[str, Entry]) -> dict[str, str]:
        if "README.md" not in files:
            return {}
        text = self.server.blob(files["README.md"].sha256).read_text()
        found = re.match(r"---\n.*?^license: *([^\n]+)\n.*?^---$", text, re.DOTALL | re.MULTILINE)
        return {"license": found[1]} if found else {}

    def described(self, path: str, entry: Entry) -> dict[str, Any]:
        lfs = {"oid": entry.sha256, "sha256": entry.sha256, "size": entry.bytes, "pointerSize": 134}
        about = {"type": "file", "path": path, "oid": entry.oid, "blobId": entry.oid, "size": entry.bytes}
        return about | ({"lfs": lfs} if entry.lfs else {})

    def tree(self, repo: str, revision: str, path: str) -> None:
        if commit := self.found(repo, revision):
            inside = [name for name in commit[1] if not path or name.startswith(f"{path}/")]
            if self.query.get("recursive", ["false"])[0].lower() != "true":
                inside = [name for name in inside if "/" not in name[len(path) + 1 if path else 0 :]]
            first, count = int(self.query.get("cursor", ["0"])[0]), 1000
            more = {}
            if first + count < len(inside):
                following = f"{self.server.url}{urlsplit(self.path).path}?recursive=true&cursor={first + count}"
                more = {"Link": f'<{following}>; rel="next"'}
            self.reply([self.described(name, commit[1][name]) for name in inside[first : first + count]], **more)

    def paths_info(self, repo: str, revision: str) -> None:
        if commit := self.found(repo, revision):
            if self.headers.get("Content-Type", "").startswith("application/json"):
                wanted = json.loads(self.data)["paths"]
            else:
                wanted = parse_qs(self.data.decode()).get("paths", [])
            self.reply([self.described(path, commit[1][path]) for path in wanted if path in commit[1]])

    def refs(self, repo: str) -> None:
        if commit := self.found(repo, "main"):
            tags = self.server.repositories[repo].tags.items()
            self.reply(
                {
                    "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": commit[0]}],
                    "converts": [],
                    "tags": [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": sha} for tag, sha in tags],
                }
            )

    def preupload(self, repo: str, revision: str) -> None:
        if commit := self.found(repo, revision):
            files = []
            for file in json.loads(self.data)["files"]:
                path, known = file["path"], commit[1].get(file["path"])
                large = path.endswith(LFS_SUFFIXES) or file["size"] > LFS_BYTES
                oid = known.sha256 if known and known.lfs else known and known.oid
                mode = "lfs" if large else "regular"
                files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self.reply({"files": files})

    def lfs_batch(self, repo: str) -> None:
        objects = []
        for wanted in json.loads(self.data)["objects"]:
            upload = {"href": f"{self.server.url}/lfs/{wanted['oid']}"}
            verify = {"href": f"{self.server.url}/lfs/verify"}
            held = self.server.blob(wanted["oid"]).is_file()
            objects.append(wanted if held else {**wanted, "actions": {"upload": upload, "verify": verify}})
        self.reply({"transfer": "basic", "objects": objects})

    def lfs_put(self, sha256: str) -> None:
        if hashlib.sha256(self.data).hexdigest() != sha256:
            self.refuse(HTTPStatus.BAD_REQUEST, "the digest differs")
        else:
            self.server.keep(self.data, True)
            self.answer(HTTPStatus.OK, ETag=f'"{sha256}"')

    def lfs_verify(self) -> None:
        asked = json.loads(self.data)
        held = self.server.blob(asked["oid"])
        good = held.is_file() and held.stat().st_size == asked["size"]
        self.answer(HTTPStatus.OK if good else HTTPStatus.NOT_FOUND)

    def commit(self, repo: str, revision: str) -> None:
        lines = [json.loads(line) for line in self.data.splitlines() if line.strip()]
        if not (parent := self.found(repo, revision)):
            return
        header, files = lines[0]["value"], dict(parent[1])
        for value, key in ((line["value"], line["key"]) for line in lines[1:]):
            if key == "file":
                files[value["path"]] = self.server.keep(base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                held = self.server.blob(value["oid"])
                if not held.is_file():
                    self.refuse(HTTPStatus.BAD_REQUEST, f"LFS object {value['oid']} was not uploaded")
                    return
                files[value["path"]] = self.server.large(value["oid"], held.stat().st_size)
            elif key == "deletedFile":
                files.pop(value["path"])
            else:
                files = {path: entry for path, entry in files.items() if not path.startswith(value["path"])}
        with self.server.lock:
            repository = self.server.repositories[repo]
            if header.get("parentCommit", parent[0]) != repository.commits[-1][0]:
                self.refuse(
                    HTTPStatus.PRECONDITION_FAILED, "A commit has happened since. Please refresh and try again."
                )
                return
            sha = repository.commit(files)
        self.reply({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{repo}/commit/{sha}"})

    def tag(self, repo: str, revision: str) -> None:
        if commit := self.found(repo, revision):
            repository, tag = self.server.repositories[repo], json.loads(self.data)["tag"]
            if tag in repository.tags:
                self.refuse(HTTPStatus.CONFLICT, f"Tag {tag} already exists")
            else:
                repository.tags[tag] = commit[0]
                self.reply({})

    def untag(self, repo: str, revision: str) -> None:
        self.server.repositories[repo].tags.pop(revision)
        self.reply({})

    def resolve(self, repo: str, revision: str, path: str) -> None:
        if commit := self.found(repo, revision):
            sha, files = commit
            if path not in files:
                self.refuse(HTTPStatus.NOT_FOUND, "Entry not found", "EntryNotFound")
                return
            entry, about = files[path], {"X_Repo_Commit": sha}
            if entry.lfs:
                about |= {"X_Linked_Size": str(entry.bytes), "X_Linked_ETag": f'"{entry.sha256}"'}
                self.answer(HTTPStatus.FOUND, Location=f"{self.server.cdn}/cdn/{quote(entry.sha256)}", **about)
            else:
                self.answer_file(self.server.blob(entry.sha256), f'"{entry.oid}"', **about)

    def cdn(self, sha256: str) -> None:
        if (path := self.server.blob(sha256)).is_file():
            self.answer_file(path, f'"{sha256}"')
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "no such object")


class Hub(Server, Storage):
    """A hub whose objects lie in `root`. `cdn` is the origin that serves large files: another than the hub's."""

    handler = HubHandler

    def __init__(self, root: Path, *, cdn: str = "", port: int = 0) -> None:
        Server.__init__(self, port)
        Storage.__init__(self, root)
        self.cdn = cdn or f"http://localhost:{self.server_address[1]}"
        self.lock = threading.RLock()  # type: ignore[assignment]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="Where objects are kept.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--repository", nargs=2, action="append", default=[], metavar=("OWNER/NAME", "FOLDER"))
    options = parser.parse_args()
    with Hub(options.root, port=options.port) as hub:
        for repo, folder in options.repository:
            hub.add(repo, Path(folder))
        print(hub.url, flush=True)
        hub.thread.join()


if __name__ == "__main__":
    main()
