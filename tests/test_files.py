"""Files that are whole or absent, with the rights of the umask, and names that can be shown."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import refusal

from support.command_line import ROOT, UserError
from support.files import check_names, check_writable, replace_patiently, written_whole


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_file_whose_writing_fails_keeps_its_old_content_and_leaves_nothing_else(tmp_path, failure):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(failure), written_whole(path) as temporary:
        temporary.write_text("half of the n")
        raise failure
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"


def test_file_that_another_program_holds_is_tried_again_on_windows(tmp_path, monkeypatch):
    replace, attempts, waited = os.replace, [], []

    def replaced(source, target):
        attempts.append(target)
        if len(attempts) < 3:
            raise PermissionError(13, "in use", source)
        return replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr("time.sleep", waited.append)
    with pytest.raises(PermissionError) as refused, written_whole(tmp_path / "a.txt") as path:
        path.write_text("new")
    assert refused.value.filename == str(tmp_path / "a.txt") and not waited
    monkeypatch.setattr("support.files.os.name", "nt")
    attempts.clear()
    (tmp_path / "b").write_text("new")
    replace_patiently(tmp_path / "b", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "new" and len(attempts) == 3 == len(waited) + 1


def test_failure_that_names_no_file_as_that_of_a_full_disk_gets_the_files_name(tmp_path):
    with pytest.raises(OSError, match="No space") as error, written_whole(tmp_path / "x.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "x.txt")


WRITING = """
import sys
from support.files import written_whole
with written_whole(sys.argv[1]) as temporary:
    print(temporary.name, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks: leftovers stay")
def test_file_of_a_killed_process_is_removed_by_the_next_that_writes_there_and_that_of_a_living_one_is_not(tmp_path):
    command = [sys.executable, "-c", WRITING, tmp_path / "x.txt"]
    started = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    dead, alive = (process.stdout.readline().decode().strip() for process in started)
    started[0].kill()
    started[0].wait()
    assert {dead, alive} == {path.name for path in tmp_path.iterdir()}
    for name in (".holiday.partial", ".sr-mine.part", ".abc.part.pth"):
        (tmp_path / name).touch()
    (tmp_path / ".sr-12345678.part.txt").symlink_to("x.txt")
    (tmp_path / ".sr-abcdefgh.part").mkdir()
    kept = {path.name for path in tmp_path.iterdir()} - {dead}
    with written_whole(tmp_path / "y.txt") as temporary:
        temporary.write_text("new")
    assert {path.name for path in tmp_path.iterdir()} == kept | {"y.txt"}
    started[1].communicate()
    assert {path.name for path in tmp_path.iterdir()} == kept - {alive} | {"x.txt", "y.txt"}


def test_device_pipe_and_folder_are_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/null")
    before = {path: path.lstat().st_mode for path in tmp_path.iterdir()}
    for name in ("pipe", "folder", "link"):
        with pytest.raises(UserError, match="where a file is to be written"), written_whole(tmp_path / name):
            pass
    assert {path: path.lstat().st_mode for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_written_file_takes_its_place_at_the_end_with_the_rights_of_the_umask(tmp_path, mask):
    path = tmp_path / "new" / "x.txt"
    before = os.umask(mask)
    try:
        with written_whole(path) as temporary:
            temporary.write_text("new")
            assert not path.exists()
    finally:
        os.umask(before)
    assert [file.name for file in path.parent.iterdir()] == ["x.txt"]
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_check_writable_creates_nothing_and_refuses_a_path_through_a_file(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for folder in ("file", "file/a"):
        assert str(tmp_path / folder) in refusal(check_writable, tmp_path / folder)


@pytest.mark.parametrize(
    ("name", "plain"), [("a b.png", True), ("a\u202fb\u3000c\xa0.png", True), ("a\nb.png", False), ("\x1b[2J", False),
                        ("a\u2028b", False), ("\udcff.png", False)],
)  # fmt: skip
def test_names_of_plain_text_may_hold_spaces_of_any_width(name, plain):
    assert plain or "rename it" in refusal(check_names, [Path(name)])
    if plain:
        check_names([Path(name)])
