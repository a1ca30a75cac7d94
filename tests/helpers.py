"""What several test files share: a folder's contents, that a script refuses bad input without a trace, waiting."""

import time
import warnings


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
