"""Where Fashion-MNIST cannot be had from, in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.static import StaticServer
from tests.zoo.store.transfer.test_connections import secured
from zoo.datasets import DatasetError
from zoo.datasets.fashion_mnist import load


@pytest.mark.parametrize("source", ["/nowhere", "http://[::1", "http://127.0.0.1:port", "http://a b"])
def test_a_place_that_is_none_is_one_sentence(source: str) -> None:
    with pytest.raises(DatasetError, match=r"could not be read from .* set GENZOO_FASHION_MNIST") as caught:
        load("train", source)
    assert "\n" not in str(caught.value)


def test_a_certificate_that_nobody_trusts_says_how_to_trust_it(tmp_path: Path) -> None:
    with (
        StaticServer(tmp_path) as server,
        secured(server, tmp_path),
        pytest.raises(DatasetError, match="SSL_CERT_FILE"),
    ):
        load("train", server.url.replace("http:", "https:"))
