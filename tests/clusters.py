"""Real Ray clusters on loopback addresses: a head and nodes, each with processes and a home of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.files import HOME_VARIABLE

ROOT = Path(__file__).parents[1]
STORE_BYTES = 80 << 20  # the least that Ray takes


class RayCluster:
    """127.0.0.2 is the head, which takes no work; the first node is 127.0.0.3.

    Ray would replace 127.0.0.1 by this host's address on the network.
    """

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self.folder, self._count = folder, 1
        head = self._arguments(0, "head", {}) | {"include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address

    def add(self, name: str, cpus: int = 1, environment: Mapping[str, str] | None = None) -> Any:
        """A node whose workers have this environment, and a home below `folder` unless it says another."""
        return self._cluster.add_node(**self._arguments(cpus, name, environment or {}))

    def _arguments(self, cpus: int, name: str, environment: Mapping[str, str]) -> dict[str, Any]:
        self._count += 1
        home = {HOME_VARIABLE: str(self.folder / name), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return {
            "num_cpus": cpus,
            "node_name": name,
            "node_ip_address": f"127.0.0.{self._count}",
            "object_store_memory": STORE_BYTES,
            "env_vars": {**home, **environment},
            "num_gpus": 0,
        }

    def kill(self, node: Any) -> None:
        """Every process of a node, at once."""
        self._cluster.remove_node(node, allow_graceful=False)

    def kill_head(self) -> None:
        self._cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)

    def close(self) -> None:
        for node in list(self._cluster.list_all_nodes()):
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


@contextmanager
def cluster(folder: Path) -> Iterator[RayCluster]:
    """A cluster without nodes yet, all of whose processes are gone after the block."""
    with tempfile.TemporaryDirectory(prefix="gz-", dir="/tmp") as short:  # a socket's path has 107 characters at most
        os.environ["RAY_TMPDIR"] = short
        made = RayCluster(folder)
        try:
            yield made
        finally:
            made.close()
            os.environ.pop("RAY_TMPDIR", None)  # a cluster inside this one's block took it
