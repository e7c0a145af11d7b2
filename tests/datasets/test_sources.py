"""Fetching: three sources, verified bytes or none, and a sentence for whatever goes wrong."""

import errno
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from toydata import FILES, WHEEL, digest, write_zip

from dlrm_mini.datasets import registry, sources
from dlrm_mini.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
CHILD = """
import sys
from pathlib import Path
from dlrm_mini.datasets import registry, sources
registry.course_file = lambda name: Path(sys.argv[1])
class Loud(sources.FileLock):
    def acquire(self, *args, **kwargs):
        print("at the lock", flush=True)
        return super().acquire(*args, **kwargs)
sources.FileLock = Loud
print(sources.ensure("toy").source, flush=True)
"""


def refused() -> str:
    with pytest.raises(UserError) as caught:
        sources.ensure("toy")
    return str(caught.value)


def break_off(path, keep=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


# Three sources in order


def test_the_publisher_comes_first(toy):
    found = sources.ensure("toy")
    assert toy.holds_the_files() and found.usable == ("u.data", "u.user")
    assert found.source == toy.archive.as_uri()
    note = json.loads((toy.folder / "source.json").read_text())
    assert note["files"] == {name: digest(content) for name, content in FILES.items()}


def test_the_wheel_gives_the_same_bytes(toy):
    toy.no_publisher()
    assert "wheel toydata==1.0" in sources.ensure("toy").source
    assert toy.holds_the_files()


def test_the_users_folder_is_enough_and_is_never_written_to(toy):
    toy.no_publisher()
    toy.no_index()
    toy.folder.mkdir(parents=True)
    for name, content in FILES.items():
        (toy.folder / name).write_bytes(content)
    assert sources.ensure("toy").source == "your own files"
    assert sorted(toy.left_behind()) == ["toy", *(str(pathlib.Path("toy", n)) for n in FILES)]


@pytest.mark.parametrize("kind", ["archive", "wheel"])
def test_an_archive_in_the_users_folder_is_read(toy, kind):
    archive = getattr(toy, kind)
    toy.data.mkdir()
    (toy.data / archive.name).write_bytes(archive.read_bytes())
    toy.no_publisher()
    toy.no_index()
    assert sources.ensure("toy").source == f"your own {archive.name}"
    assert toy.holds_the_files() and (toy.data / archive.name).exists()


def test_only_what_is_missing_is_added(toy):
    toy.folder.mkdir(parents=True)
    own = toy.folder / "u.data"
    own.write_bytes(FILES["u.data"])
    before = own.stat()
    sources.ensure("toy")
    assert toy.holds_the_files()
    assert (own.stat().st_ino, own.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_once_cached_nothing_is_fetched(toy, monkeypatch):
    sources.ensure("toy")

    def fail(*args, **kwargs):
        raise AssertionError("fetched again")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setattr(sources, "FileLock", fail)  # so that a read-only folder serves as well
    assert sources.ensure("toy").usable


def test_an_unknown_data_set_is_refused(toy):
    with pytest.raises(UserError, match="no data set 'ml-1b'; there are: toy"):
        sources.ensure("ml-1b")


# Altered, truncated, missing


def test_an_altered_file_of_the_user_is_named_and_left(toy):
    sources.ensure("toy")
    path = toy.folder / "u.user"
    path.write_bytes(b"1|25|M|technician|85711\n")
    message = refused()
    for part in (str(path), digest(path.read_bytes()), digest(FILES["u.user"]), "move it away"):
        assert part in message
    assert path.read_bytes() == b"1|25|M|technician|85711\n"
    assert "toy (Toy): ALTERED" in registry.describe_status()


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_bad_archive_of_the_user_is_named_and_left(toy, damage):
    toy.data.mkdir()
    own = toy.data / "toy.zip"
    own.write_bytes(toy.archive.read_bytes())
    if damage == "truncated":
        break_off(own)
    else:
        write_zip(own, {f"toy/{name}": b"other" for name in FILES})
    found = digest(own.read_bytes())
    message = refused()
    for part in (
        str(own),
        f"{own.stat().st_size:,} bytes",
        found,
        digest(toy.archive.read_bytes()),
    ):
        assert part in message
    assert toy.left_behind() == ["toy.zip"] and digest(own.read_bytes()) == found


def test_a_bad_download_falls_through_to_the_wheel(toy):
    break_off(toy.archive)
    assert "wheel" in sources.ensure("toy").source
    assert toy.holds_the_files()


def test_a_wrong_checksum_at_each_source_leaves_nothing(toy):
    zip_before, wheel_before = toy.archive.read_bytes(), toy.wheel.read_bytes()
    break_off(toy.archive)
    write_zip(toy.wheel, {
        "toydata/toy.inter": b"x", "toydata-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n",
        "toydata-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: toydata\nVersion: 1.0\n",
    })  # fmt: skip
    message = refused()
    for content in (zip_before, wheel_before, toy.archive.read_bytes(), toy.wheel.read_bytes()):
        assert digest(content) in message
    assert toy.left_behind() == []


@pytest.mark.parametrize("kind", [0, 1])
def test_a_member_is_verified_even_in_an_archive_that_is(toy, kind):
    """The right archive and a wrong member: the registry is wrong, and nothing is put there."""
    toy.edit(lambda entry: entry["files"].update({"u.user": digest(b"something else")}))
    if kind:
        toy.no_publisher()
    member = ["toy/u.user", "toydata/toy.user"][kind]
    message = refused()
    assert f"{member} in it gives u.user" in message and digest(FILES["u.user"]) in message
    assert toy.left_behind() == []


def test_a_member_that_is_missing_is_named(toy):
    content = write_zip(toy.archive, {"toy/u.data": FILES["u.data"]})
    toy.edit(lambda e: e["sources"][0].update(sha256=digest(content), bytes=len(content)))
    toy.no_index()
    assert "There is no item named 'toy/u.user'" in refused()


def test_what_is_no_archive_is_refused(toy):
    toy.archive.write_bytes(b"<html>please log in</html>")
    toy.edit(lambda e: e["sources"][0].update(sha256=digest(toy.archive.read_bytes())))
    toy.no_index()
    assert "the archive cannot be read: File is not a zip file" in refused()
    assert toy.left_behind() == []


def test_a_member_too_big_is_not_unpacked(toy, monkeypatch):
    monkeypatch.setattr(sources, "MAX_MEMBER", 10)
    toy.no_index()
    assert "too many" in refused()


def test_a_download_that_does_not_end_is_cut(toy):
    toy.archive.write_bytes(toy.archive.read_bytes() + bytes(10))
    toy.no_index()
    assert "more than the expected" in refused()


def test_members_are_read_by_name_and_no_path_of_an_archive_is_used(toy, tmp_path):
    evil = {f"toy/{name}": content for name, content in FILES.items()}
    evil |= {
        "../evil": b"1",
        "toy/../../evil": b"2",
        str(tmp_path / "evil"): b"3",
        "toy/extra": b"4",
    }
    content = write_zip(toy.archive, evil)
    toy.edit(lambda e: e["sources"][0].update(sha256=digest(content), bytes=len(content)))
    sources.ensure("toy")
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    expected = {*FILES, "source.json", ".toy.lock", "toy.zip", WHEEL, "r.json"}
    assert names == expected


def test_no_network_at_all_says_what_was_tried_and_what_to_do(toy):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    toy.edit(lambda e: e["sources"][0].update(url=f"http://127.0.0.1:{port}/toy.zip"))
    toy.no_index()
    message = refused()
    lines = message.splitlines()
    assert lines[1].strip().startswith(f"1. {toy.folder}: lacks u.data, u.user")
    assert f"2. http://127.0.0.1:{port}/toy.zip: " in lines[2] and "refused" in lines[2]
    assert "3. the wheel toydata==1.0" in lines[3] and "No matching distribution" in lines[3]
    assert f"put toy.zip into {toy.data}" in message and "DLRM_MINI_DATA" in message
    assert toy.left_behind() == []


def test_an_expired_certificate_falls_through(toy, monkeypatch):
    import ssl

    def expired(url, timeout):
        error = ssl.SSLCertVerificationError(1, "certificate has expired")
        raise urllib.request.URLError(error)

    monkeypatch.setattr(urllib.request, "urlopen", expired)
    assert "wheel" in sources.ensure("toy").source
    (toy.folder / "u.data").unlink()
    toy.no_index()
    assert "certificate has expired" in refused()


def test_verification_is_never_switched_off():
    switches = re.compile(r"CERT_NONE|_create_unverified|check_hostname\s*=\s*False|trusted-host")
    for path in (ROOT / "dlrm_mini").rglob("*.py"):
        assert not switches.search(path.read_text("utf-8")), path
        assert "extractall" not in path.read_text("utf-8"), path


def test_without_pip_the_sentence_says_so(toy, monkeypatch):
    toy.no_publisher()
    monkeypatch.setattr(sys, "executable", str(toy.data / "no-python"))
    assert "pip cannot be started" in refused()


# The disk


def test_a_folder_that_cannot_be_made_names_the_variable(toy, monkeypatch):
    toy.data.write_bytes(b"a file")
    monkeypatch.setenv("DLRM_MINI_DATA", str(toy.data / "below"))
    message = refused()
    assert str(toy.data / "below") in message and "DLRM_MINI_DATA" in message


def test_a_read_only_folder_names_the_variable(toy, monkeypatch):
    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(sources.tempfile, "TemporaryFile", read_only)
    message = refused()
    assert "Read-only file system" in message and "DLRM_MINI_DATA" in message
    assert toy.left_behind() == []


@pytest.mark.parametrize("suffix", [".zip", "u.user", ".json"])
def test_a_full_disk_leaves_nothing(toy, monkeypatch, suffix):
    """The disk fills up while the archive, a member or the note is written."""
    real = pathlib.Path.open

    def full(self, mode="r", *args, **kwargs):
        file = real(self, mode, *args, **kwargs)
        if "w" in mode and self.name.endswith(suffix):

            class Full:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def write(self, content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            return Full()
        return file

    monkeypatch.setattr(pathlib.Path, "open", full)
    message = refused()
    assert "No space left on device" in message and str(toy.data) in message
    assert toy.left_behind() == []


class Stream:
    """Half a download, then what `then` raises."""

    def __init__(self, content, then):
        self.chunks, self.then = [content[:50]], then

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self, size):
        if self.chunks:
            return self.chunks.pop()
        raise self.then


def test_ctrl_c_in_the_middle_leaves_nothing(toy, monkeypatch):
    stream = Stream(toy.archive.read_bytes(), KeyboardInterrupt())
    with monkeypatch.context() as patched:
        patched.setattr(urllib.request, "urlopen", lambda url, timeout: stream)
        with pytest.raises(KeyboardInterrupt):
            sources.ensure("toy")
    assert toy.left_behind() == []
    assert sources.ensure("toy").usable, "the lock was not released"


def test_a_connection_that_breaks_falls_through(toy, monkeypatch):
    stream = Stream(toy.archive.read_bytes(), ConnectionResetError("reset by peer"))
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: stream)
    assert "wheel" in sources.ensure("toy").source


def test_what_a_killed_process_left_is_swept(toy):
    stale = toy.data / ".toy.tmp-killed"
    stale.mkdir(parents=True)
    (stale / "toy.zip").write_bytes(b"half")
    other = toy.data / ".other.tmp-alive"
    other.mkdir()
    sources.ensure("toy")
    assert not stale.exists() and other.exists()


def test_two_processes_fetch_once(toy):
    """The first is held up in its download until the second stands at the lock."""
    asked, release, requests = threading.Event(), threading.Event(), []
    content = toy.archive.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            asked.set()
            release.wait(60)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    def start():
        command = [sys.executable, "-c", CHILD, str(toy.registry)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/toy.zip"
        toy.edit(lambda e: e["sources"][0].update(url=url))
        first = start()
        assert asked.wait(60)
        second = start()
        assert second.stdout.readline() == "at the lock\n"
        release.set()
        outputs = [first.communicate(timeout=60)[0], second.communicate(timeout=60)[0]]
        server.shutdown()
    assert outputs == [f"at the lock\n{url}\n", f"{url}\n"]
    assert requests == ["/toy.zip"] and toy.holds_the_files()


# Status


def test_status_before_and_after(toy):
    (before,) = registry.status()
    assert before.source is None and before.usable is None
    assert before.names("missing") == set(FILES)
    assert "toy (Toy): not there" in registry.describe_status()
    assert not toy.data.exists(), "looking made a folder"
    sources.ensure("toy")
    (after,) = sources.status()
    assert after.names("verified") == set(FILES)
    assert "u.user         verified" in sources.describe_status()
    toy.edit(lambda e: e["files"].update({"u.other": "0" * 64}))
    text = sources.describe_status()
    assert "u.other        not needed" in text
    assert "toy (Toy): ready" in text and str(toy.folder) in text and "Nobody 2000" in text
