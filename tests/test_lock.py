"""Lock, RLock and the semaphores: free, contended, timed out, killed, between native threads."""

import os
import threading

import pytest

import rgevent
from rgevent.lock import BoundedSemaphore, DummySemaphore, Lock, RLock, Semaphore

KINDS = pytest.mark.parametrize("kind", [Lock, RLock, Semaphore, BoundedSemaphore])


def held(lock):
    """A greenlet that has the lock, until it is killed."""

    def hold():
        with lock:
            rgevent.sleep(60)

    greenlet = rgevent.spawn(hold)
    rgevent.sleep(0)
    return greenlet


@KINDS
def test_a_free_lock_is_taken_at_once(kind):
    lock = kind()
    assert not lock.locked()
    assert lock.acquire() is True
    assert lock.locked()
    lock.release()
    assert not lock.locked()
    with lock:
        assert lock.locked()
    assert not lock.locked()


@KINDS
def test_a_taken_lock_is_refused_or_times_out(kind):
    lock = kind()
    holder = held(lock)
    assert lock.acquire(blocking=False) is False
    assert lock.acquire(False) is False
    assert lock.acquire(timeout=0.01) is False
    holder.kill()
    assert lock.acquire(timeout=5) is True


@KINDS
def test_waiters_get_it_in_the_order_of_arrival(kind):
    lock = kind()
    holder = held(lock)
    log = []

    def wait(number):
        with lock:
            log.append(number)
            rgevent.sleep(0)

    waiters = [rgevent.spawn(wait, number) for number in range(4)]
    rgevent.sleep(0)
    holder.kill(block=False)
    rgevent.joinall(waiters, timeout=5)
    assert log == [0, 1, 2, 3]
    assert not lock.locked()


@KINDS
def test_nobody_overtakes_the_one_it_is_handed_to(kind):
    lock = kind()
    holder = held(lock)
    waiter = held(lock)
    holder.kill()
    assert lock.acquire(blocking=False) is False
    waiter.kill()
    assert lock.acquire(blocking=False) is True


@KINDS
def test_a_lock_outlives_a_waiter_killed_as_it_is_handed_over(kind):
    lock = kind()
    holder = held(lock)
    killed = held(lock)
    got = rgevent.spawn(lock.acquire, timeout=5)
    rgevent.sleep(0)
    holder.kill(block=False)
    killed.kill(block=False)
    got.join(timeout=5)
    assert got.value is True


@KINDS
def test_a_killed_waiter_leaves_the_line(kind):
    lock = kind()
    holder = held(lock)
    killed = held(lock)
    killed.kill()
    holder.kill()
    assert not lock.locked()


@KINDS
def test_threads_and_greenlets_share_a_lock(kind):
    lock = kind()
    inside, most, rounds = [], [], []

    def work():
        for _ in range(20):
            with lock:
                inside.append(1)
                most.append(len(inside))
                rgevent.sleep(0)
                inside.pop()
                rounds.append(1)

    def thread():
        rgevent.joinall([rgevent.spawn(work) for _ in range(3)], timeout=20)

    threads = [threading.Thread(target=thread) for _ in range(3)]
    for item in threads:
        item.start()
    thread()
    for item in threads:
        item.join(20)
    assert len(rounds) == 240
    assert max(most) == 1
    assert not lock.locked()


@pytest.mark.parametrize("kind", [Lock, RLock])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((False, 1), ValueError),
        ((True, -2), ValueError),
        ((True, float("nan")), ValueError),
        ((True, 1e100), OverflowError),
        ((True, threading.TIMEOUT_MAX * 2), OverflowError),
        ((True, "soon"), TypeError),
    ],
)
def test_arguments_that_make_no_sense(kind, arguments, error):
    lock = kind()
    with pytest.raises(error):
        lock.acquire(*arguments)
    assert not lock.locked()


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_minus_one_waits_without_limit(kind):
    lock = kind()
    assert lock.acquire(True, -1)
    lock.release()
    assert lock.acquire(timeout=threading.TIMEOUT_MAX)


def test_anybody_may_release_a_lock():
    lock = Lock()
    lock.acquire()
    rgevent.spawn(lock.release).join()
    assert not lock.locked()
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        lock.release()


def test_the_old_names_of_lock():
    lock = Lock()
    assert lock.acquire_lock()
    assert lock.locked_lock()
    lock.release_lock()
    assert repr(lock).startswith("<unlocked rgevent.lock.Lock object at 0x")


def test_a_thread_waits_for_a_greenlet():
    lock = Lock()
    lock.acquire()
    got = []
    thread = threading.Thread(target=lambda: got.append(lock.acquire(timeout=10)))
    thread.start()
    rgevent.spawn_later(0.01, lock.release).join()
    thread.join(10)
    assert got == [True]


def test_the_owner_takes_an_rlock_again():
    lock = RLock()
    with lock, lock:
        assert lock._recursion_count() == 2
        assert lock._is_owned()
        assert rgevent.spawn(lock.acquire, False).get() is False
        assert rgevent.spawn(lock._is_owned).get() is False
        assert "count=2" in repr(lock)
    assert not lock._is_owned()


def test_only_the_owner_releases_an_rlock():
    lock = RLock()
    with pytest.raises(RuntimeError, match="un-acquired"):
        lock.release()
    seen = []

    def other():
        try:
            lock.release()
        except RuntimeError as error:
            seen.append(error)

    with lock:
        rgevent.spawn(other).join()
        assert lock.locked()
    assert len(seen) == 1


@pytest.mark.parametrize("kind", [Lock, RLock])
def test_conditions_work_on_our_locks(kind):
    condition = threading.Condition(kind())
    items = []

    def consume():
        with condition:
            while not items:
                condition.wait()
            return items.pop()

    with condition:
        items.append(1)
        condition.notify()
    assert rgevent.spawn(consume).get(timeout=5) == 1


# That is what this is about.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("kind", [Lock, RLock])
def test_a_forked_child_can_free_it(kind):
    lock = kind()
    waiting = threading.Thread(target=lambda: lock.acquire(timeout=5))
    lock.acquire()
    waiting.start()
    child = os.fork()
    if child == 0:
        lock._at_fork_reinit()
        fine = not lock.locked() and lock.acquire(timeout=1)
        lock.release()
        os._exit(0 if fine and lock.acquire(timeout=1) else 1)
    assert os.waitpid(child, 0)[1] == 0
    lock.release()
    waiting.join(10)


def test_semaphores_count():
    semaphore = Semaphore(2)
    assert semaphore.counter == 2
    assert semaphore.acquire()
    assert semaphore.acquire()
    assert not semaphore.acquire(blocking=False)
    assert semaphore.release(2) == 2
    assert semaphore.ready()
    with pytest.raises(ValueError, match=">= 0"):
        Semaphore(-1)
    with pytest.raises(ValueError, match="one or more"):
        semaphore.release(0)


def test_a_bounded_semaphore_refuses_one_too_many():
    semaphore = BoundedSemaphore(2)
    with pytest.raises(ValueError, match="too many"):
        semaphore.release()
    semaphore.acquire()
    semaphore.release()
    assert semaphore.counter == 2


def test_waiting_for_a_semaphore_takes_nothing():
    semaphore = Semaphore(0)
    assert semaphore.wait(timeout=0.01) == 0
    waiter = rgevent.spawn(semaphore.wait)
    killed = rgevent.spawn(semaphore.wait)
    rgevent.sleep(0)
    killed.kill()
    semaphore.release()
    waiter.join(timeout=5)
    assert waiter.value == 1
    assert semaphore.counter == 1


def test_links_of_a_semaphore_are_called_while_a_permit_is_free():
    semaphore = Semaphore(0)
    log = []
    semaphore.rawlink(log.append)
    semaphore.release()
    assert semaphore.acquire()
    rgevent.sleep(0.001)
    assert log == []
    semaphore.release()
    rgevent.sleep(0.001)
    assert log == [semaphore]


def test_a_new_count_serves_those_who_wait():
    semaphore = Semaphore(0)
    waiters = [rgevent.spawn(semaphore.acquire) for _ in range(2)]
    rgevent.sleep(0)
    semaphore.counter = 3
    rgevent.joinall(waiters, timeout=5)
    assert semaphore.counter == 1


def test_a_dummy_semaphore_never_blocks():
    semaphore = DummySemaphore()
    for _ in range(3):
        assert semaphore.acquire()
    with semaphore:
        assert not semaphore.locked()
    semaphore.release()


def test_a_loop_callback_must_not_wait():
    lock = Lock()
    lock.acquire()
    seen = []

    def callback():
        with pytest.raises(AssertionError, match="blocking"):
            lock.acquire()
        seen.append(lock.acquire(False))

    rgevent._rgevent.call_soon(callback)
    rgevent.sleep(0.001)
    assert seen == [False]
    lock.release()
    assert not lock.locked()


def test_permit_is_not_given_to_a_native_thread_that_has_ended():
    semaphore = Semaphore(0)

    def wait():
        rgevent.spawn(semaphore.acquire)
        rgevent.sleep(0)

    for _ in range(3):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(10)
    # Others may use what the ended threads have left behind.
    leave = threading.Event()
    other = threading.Thread(target=lambda: (rgevent.sleep(0), leave.wait(10)))
    other.start()
    semaphore.release()
    assert semaphore.acquire(timeout=5)
    leave.set()
    other.join(10)
