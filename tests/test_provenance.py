"""Where a number comes from: command, versions, device, commit."""

import subprocess
from pathlib import Path

import torch

from support.provenance import git_state, library_versions, provenance


def test_git_state_is_the_commit_and_whether_a_tracked_file_differs_from_it(tmp_path, monkeypatch):
    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(
            ["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True, text=True
        ).stdout

    monkeypatch.setattr("support.provenance.ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() == (None, None)
    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "--message", "one")
    (tmp_path / "untracked").write_text("two")
    assert git_state() == (git("rev-parse", "HEAD").strip(), True)
    (tmp_path / "file").write_text("two")
    assert git_state() == (git("rev-parse", "HEAD").strip(), False)
    monkeypatch.setenv("PATH", "")
    assert git_state() == (None, None)


def test_provenance_names_command_versions_device_and_commit(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--epochs", "3"])
    found = provenance(torch.device("cpu"))
    assert found["command"] == "python train.py --epochs 3"
    assert found["versions"] == library_versions()
    assert found["device"].startswith("cpu: ") and found["device"].endswith(" threads")
    assert f" ({torch.backends.cpu.get_cpu_capability()}" in found["device"]
    cpuinfo = Path("/proc/cpuinfo")
    assert (", AMX)" in found["device"]) == (cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text())
    assert (found["commit"], found["clean"]) == git_state()
