"""Where files go."""

from pathlib import Path

import pytest

from dlrm_mini.paths import try_writing


def test_a_folder_is_made_and_left_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    try_writing(folder)
    try_writing(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that nobody writes into")
def test_a_folder_that_is_there_may_still_take_no_file():
    with pytest.raises(OSError):
        try_writing(Path("/proc"))


def test_a_file_is_no_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(OSError):
        try_writing(file / "folder")
    assert file.read_text() == "kept"
