"""Progress without a terminal, reading ahead and writing behind."""

import threading

import pytest

from support.progress import progress, read_ahead, write_behind


def test_progress_without_a_terminal_is_a_plain_line_after_each_interval(monkeypatch, capsys):
    monkeypatch.setattr("support.progress.PLAIN_SECONDS", -1)
    assert list(progress("abc", "set", "images")) == ["a", "b", "c"]
    assert capsys.readouterr().out.splitlines() == [f"set: {done} of 3 images" for done in (1, 2, 3)]
    monkeypatch.setattr("support.progress.PLAIN_SECONDS", 60)
    assert list(progress({"a": 1}.items(), "set", "images")) == [("a", 1)]
    assert capsys.readouterr().out == ""


def test_read_ahead_keeps_the_order_computes_in_a_thread_and_an_error_comes_at_its_own_item():
    threads = set()

    def inverse(item):
        threads.add(threading.get_ident())
        return 1 / item

    assert list(read_ahead(inverse, [])) == []
    assert list(read_ahead(inverse, [1, 2, 4])) == [1, 0.5, 0.25]
    results = read_ahead(inverse, [1, 2, 0, 4])
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threads and threading.get_ident() not in threads


def test_write_behind_writes_in_order_in_a_thread_and_an_error_on_either_side_ends_it():
    written, threads = [], set()

    def write(item):
        threads.add(threading.get_ident())
        written.append(1 / item)

    def interrupted_after(item):
        yield item
        raise KeyboardInterrupt

    write_behind(write, [])
    write_behind(write, [1, 2, 4])
    assert written == [1, 0.5, 0.25] and threading.get_ident() not in threads
    with pytest.raises(ZeroDivisionError):
        write_behind(write, [1, 0, 4, 5])
    with pytest.raises(KeyboardInterrupt):
        write_behind(write, interrupted_after(8))
    assert written == [1, 0.5, 0.25, 1, 0.125]
