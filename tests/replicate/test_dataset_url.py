"""What is said about a dataset's address before anyone pays for fetching it."""

from __future__ import annotations

import io
import zipfile

import pytest

from studio.replicate.dataset_url import check_dataset_url, contents
from studio.replicate.trainers import catalogue
from tests.fakes.replicate_server import ReplicateServer, dataset_zip

SD35, FLUX = catalogue().trainers


def codes(
    server: ReplicateServer, content: bytes, *, flux: bool = False, autocaption: bool = False
) -> set[str]:
    server.served["/dataset.zip"] = content
    trainer = FLUX if flux else SD35
    found, _ = check_dataset_url(
        server.dataset_url, trainer, allow=(server.delivery,), autocaption=autocaption
    )
    assert all(f.why and f.fix for f in found)
    return {f.code for f in found}


def test_a_good_dataset_gives_no_finding(server: ReplicateServer) -> None:
    assert codes(server, dataset_zip(20, 20)) == set()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<html>Please sign in</html>", "dataset-not-zip"),
        (b"\x89PNG....", "dataset-not-zip"),
        (dataset_zip(0, 0), "dataset-empty"),
        (dataset_zip(4, 4), "dataset-small"),
        (dataset_zip(20, 5), "dataset-uncaptioned"),
        (b"", "dataset-url"),
    ],
)
def test_poor_datasets(server: ReplicateServer, content: bytes, expected: str) -> None:
    assert expected in codes(server, content)


def test_missing_captions_are_fine_only_for_a_trainer_that_writes_them(server: ReplicateServer) -> None:
    poor = dataset_zip(20, 5)
    assert "dataset-uncaptioned" in codes(server, poor, flux=True)
    assert codes(server, poor, flux=True, autocaption=True) == set()
    assert "dataset-uncaptioned" in codes(server, poor, autocaption=True)


def test_only_the_ends_of_a_large_file_are_read(server: ReplicateServer) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        for n in range(12):
            z.writestr(f"sub/{n}.JPG", bytes(200_000))
            z.writestr(f"sub/{n}.txt", "a boat")
        z.writestr("__MACOSX/sub/._0.JPG", b"x")
    server.served["/dataset.zip"] = buffer.getvalue()
    found, inside = check_dataset_url(server.dataset_url, SD35, allow=(server.delivery,))
    assert not found
    assert inside is not None and (inside.pictures, inside.captioned) == (12, 12)
    asked = [p for m, p in server.requests if m == "DELIVERY"]
    assert len(asked) == 3  # HEAD, the first kilobyte, the list at the end
    assert asked[-1].endswith(f"bytes={len(buffer.getvalue()) - 256_000}-{len(buffer.getvalue()) - 1}")


def test_a_list_that_cannot_be_read_cheaply_claims_nothing(server: ReplicateServer) -> None:
    server.served["/dataset.zip"] = dataset_zip(20, 20)[:-30]
    found, inside = check_dataset_url(server.dataset_url, SD35, allow=(server.delivery,))
    assert (found, inside) == ([], None)


def test_without_an_address_and_without_the_network(server: ReplicateServer) -> None:
    assert check_dataset_url("", SD35)[0][0].code == "dataset-url-missing"
    assert check_dataset_url("https://example.com/d.zip", SD35, online=False) == ([], None)
    assert check_dataset_url("https://127.0.0.1/d.zip", SD35, online=False)[0][0].code == "dataset-url"
    assert not server.requests


def test_contents_count_by_name() -> None:
    with zipfile.ZipFile(io.BytesIO(dataset_zip(3, 2))) as z:
        assert contents(z).captioned == 2
