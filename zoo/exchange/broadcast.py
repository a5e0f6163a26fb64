"""An artifact that was pulled here, on every node of a cluster: the remote sends it once, nodes pass it on.

Its files come to a node through the cluster's object store, are laid out there as a folder that anybody may pull from,
and are pulled: a node believes them no more than it believes a mirror.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from zoo import fanout
from zoo.exchange.pull import pull
from zoo.files import home
from zoo.shelf import blob_store
from zoo.store.artifact import Kind, Manifest
from zoo.store.local.blobs import BlobStore, Ref
from zoo.store.offers import Policy
from zoo.store.remotes.directory import open_remote
from zoo.store.remotes.layout import latest_file, version_folder
from zoo.store.signing import Trust


@dataclass(frozen=True)
class Arrival:
    """What a node pulls, and what it demands of it: bytes that it lacked, where it lies."""

    ref: Ref
    kind: Kind
    name: str
    variant: str
    artifact: fanout.Folder
    keys: fanout.Folder | None
    policy: Policy

    @property
    def cargo(self) -> fanout.Cargo:
        return {**self.artifact.cargo, **(self.keys.cargo if self.keys else {})}

    def __call__(self) -> tuple[int, str]:
        store = blob_store()
        home().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home(), prefix=".arrival-") as folder:
            root = Path(folder) / "remote"
            self.artifact.bring((root / version_folder(self.ref.name, self.ref.version)).parent)
            (root / latest_file(self.ref.name)).write_text(f"{self.ref.version}\n")
            keys = self.keys.bring(Path(folder)) if self.keys else Path(folder)
            trust = replace(
                self.policy.trust,
                keys=tuple(keys / path.name for path in self.policy.trust.keys),
                certificates=tuple(keys / path.name for path in self.policy.trust.certificates),
            )
            policy = replace(self.policy, trust=trust, version=None)
            found = pull(self.name, [open_remote(str(root))], store, policy, kind=self.kind, variant=self.variant)
        store.set_ref(replace(found.ref, source=self.ref.source), allow_rollback=True)
        return found.fetched, str(found.path)


def broadcast(
    ref: Ref, manifest: Manifest, name: str, variant: str, policy: Policy, store: BlobStore, workers: fanout.Workers
) -> Mapping[str, tuple[int, str]]:
    """Bring an artifact that is here to every node: the bytes that each lacked, and where it lies there.

    Raises GenzooError as `pull` does, of the first node that refuses it.
    """
    artifact = fanout.Folder.of(store.view(manifest), Path(version_folder(ref.name, ref.version)).name)
    arrival = Arrival(ref, manifest.kind, name, variant, artifact, _keys(policy.trust), policy)
    return workers.everywhere(arrival, arrival.cargo)


def _keys(trust: Trust) -> fanout.Folder | None:
    paths = (*trust.keys, *trust.certificates)
    return fanout.Folder.of_files(paths, "keys") if paths else None
