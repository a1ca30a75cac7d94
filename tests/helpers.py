"""What several test files share: folders' contents, equal states, refusals without a trace, waiting."""

import time
import warnings

import torch


def contents(folder):
    """Everything below a folder: {path: bytes, or None for a folder}."""
    return {path: None if path.is_dir() else path.read_bytes() for path in sorted(folder.rglob("*"))}


def refused(script, name, arguments, *words, unchanged):
    """Run a script: exit status 2, one line on stderr that holds `words`, and the folder `unchanged` as it was."""
    before = contents(unchanged)
    with warnings.catch_warnings(record=True) as caught:
        result = script(name, *arguments)
    assert result.status == 2
    assert result.err.startswith(f"{name}.py: error: ") and result.err.count("\n") == 1
    assert [word for word in words if word not in result.err] == [], result.err
    assert [w for w in caught if not issubclass(w.category, DeprecationWarning)] == []
    assert contents(unchanged) == before
    return True


def wait_until(condition, seconds=5):
    """Wait for another thread; fails after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def equal(first, second):
    """Whether two nested states hold the same values, tensors bit for bit."""
    if torch.is_tensor(first):
        return torch.equal(first, second) and first.dtype == second.dtype
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second
