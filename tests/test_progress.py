"""Progress without a terminal, reading ahead and writing behind."""

import threading

import pytest
from helpers import wait_until

from support.progress import progress, read_ahead, write_behind


def test_progress_without_a_terminal_is_a_plain_line_after_each_interval(monkeypatch, capsys):
    monkeypatch.setattr("support.progress.PLAIN_SECONDS", -1)
    assert list(progress("abc", "set", "images")) == ["a", "b", "c"]
    assert capsys.readouterr().out.splitlines() == [f"set: {done} of 3 images" for done in (1, 2, 3)]
    monkeypatch.setattr("support.progress.PLAIN_SECONDS", 60)
    assert list(progress({"a": 1}.items(), "set", "images")) == [("a", 1)]
    assert capsys.readouterr().out == ""


def test_read_ahead_keeps_the_order_and_computes_one_item_ahead_in_a_thread():
    asked, threads = [], set()

    def double(item):
        asked.append(item)
        threads.add(threading.get_ident())
        return 2 * item

    results = read_ahead(double, range(5))
    assert next(results) == 0
    wait_until(lambda: asked == [0, 1])
    assert list(results) == [2, 4, 6, 8]
    assert asked == [0, 1, 2, 3, 4] and threading.get_ident() not in threads


def test_read_ahead_of_nothing_is_nothing_and_an_error_comes_at_its_own_item():
    assert list(read_ahead(str, [])) == []
    results = read_ahead(lambda item: 1 / item, [1, 2, 0, 4])
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_write_behind_writes_in_order_in_a_thread_while_the_next_item_is_made():
    written, threads = [], set()

    def write(item):
        threads.add(threading.get_ident())
        wait_until(lambda: made[-1] > item or item == 4)  # the next item is made before this one is written
        written.append(item)

    made = []

    def items():
        for item in range(5):
            assert written == list(range(len(written))) and len(written) >= item - 1  # one waits at most
            made.append(item)
            yield item

    write_behind(write, items())
    assert written == made == [0, 1, 2, 3, 4] and threading.get_ident() not in threads


def test_write_behind_of_nothing_does_nothing_and_an_error_on_either_side_ends_it():
    write_behind(print, [])
    written = []
    with pytest.raises(ZeroDivisionError):
        write_behind(lambda item: written.append(1 / item), [1, 2, 0, 4, 5])
    assert written == [1, 0.5]
    with pytest.raises(KeyboardInterrupt):
        write_behind(written.append, interrupted_after(3))
    assert written == [1, 0.5, 3]


def interrupted_after(item):
    yield item
    raise KeyboardInterrupt
