"""Work ahead stays in order and within bounds."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deidcli.engine.frames import ahead, batched


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_in_order_and_never_more_than_depth_under_way(depth):
    """Items that were taken and whose result nobody has yet: what a long folder costs in memory."""
    taken, most, lock = [0], [0], threading.Lock()

    def items():
        for number in range(40):
            with lock:
                taken[0] += 1
            yield number

    def work(number):
        time.sleep(0.002 * (number % 3))
        return number * number

    with ThreadPoolExecutor(4) as pool:
        got = []
        for result in ahead(pool, work, items(), depth):
            got.append(result)
            most[0] = max(most[0], taken[0] - len(got) + 1)
    assert got == [n * n for n in range(40)]
    assert most[0] <= depth


def test_works_at_the_same_time():
    meet = threading.Barrier(3, timeout=10)
    with ThreadPoolExecutor(3) as pool:
        assert len(list(ahead(pool, lambda _: meet.wait(), range(3), 3))) == 3


def test_nothing_is_taken_before_it_is_asked_for():
    with ThreadPoolExecutor(1) as pool:
        taken = []
        results = ahead(pool, str, (taken.append(n) or n for n in range(9)), 3)
        assert taken == []
        assert next(results) == "0" and len(taken) == 3


def test_an_error_comes_in_its_place():
    def work(number):
        if number == 2:
            raise ValueError("two")
        return number

    with ThreadPoolExecutor(2) as pool:
        results = ahead(pool, work, range(5), 4)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="two"):
            next(results)


def test_no_items():
    with ThreadPoolExecutor(1) as pool:
        assert list(ahead(pool, str, [], 3)) == []
    assert list(batched([], int, 5, 5)) == []


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 12), st.integers(1, 8))
def test_batches(weights, limit, longest):
    """Every item once and in order; a batch ends as soon as it is heavy or long enough."""
    batches = list(batched(weights, int, limit, longest))
    assert [w for batch in batches for w in batch] == weights
    for batch in batches:
        assert 1 <= len(batch) <= longest and sum(batch[:-1]) < limit
    for batch in batches[:-1]:
        assert len(batch) == longest or sum(batch) >= limit


def test_products_of_matrices_take_one_thread_during_a_run():
    from threadpoolctl import threadpool_info, threadpool_limits

    from deidcli.engine.local import _pool

    def threads():
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    with threadpool_limits(2, "blas"):
        with _pool(2):
            assert set(threads()) == {1}
        assert set(threads()) == {2}, "as the program that called had it"
