"""Signals, stopping, heartbeats: what the master and the operator see of the worker."""

import contextlib
import functools
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

STOPPED_AT_ONCE_SECONDS = 3.0  # far below graceful_timeout and the keep-alive times used here
NOTICED_AT_ONCE_SECONDS = 0.5  # below the heartbeat, and the grace for requests that are arriving


def descriptors(pid):
    """What the file descriptors of a process point to."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry))
    return found


def has_one_socket(pid):
    """Whether the process has no sockets but one, such as its listener."""
    return sum(link.startswith("socket:") for link in descriptors(pid)) == 1


def ended(pid):
    """Whether the process has ended, or at least is only waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rsplit(")", 1)[1].split()[0] == "Z"


@pytest.fixture
def traffic():
    """Threads that ask for a slow page over and over, each time on a new connection."""
    stopping = threading.Event()
    failures = []
    answered = []
    threads = []

    def visit(master):
        while not stopping.is_set():
            try:
                answered.append(master.get("/slow?0.1").status)
            except Exception as error:  # every kind of loss counts
                failures.append(repr(error))

    def start(master, visitors=8):
        threads.extend(threading.Thread(target=visit, args=(master,)) for _ in range(visitors))
        for thread in threads:
            thread.start()
        return answered

    def finish():
        stopping.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert set(answered) == {200}

    start.finish = finish
    yield start
    stopping.set()
    for thread in threads:
        thread.join()


def test_no_request_is_lost_over_hup_ttin_ttou_and_term(gunicorn, traffic, wait_until):
    master = gunicorn("-w", "4", "--graceful-timeout", "10")
    master.wait_for_log("Booting worker with pid", times=4)
    answered = traffic(master)
    wait_until(lambda: len(answered) > 20, "the first answers")
    old = set(master.workers())

    master.signal(signal.SIGHUP)
    wait_until(lambda: not old & set(master.workers()), "the old workers to leave", 20)
    assert len(master.workers()) == 4
    master.signal(signal.SIGTTIN)
    wait_until(lambda: len(master.workers()) == 5, "a fifth worker")
    master.signal(signal.SIGTTOU)
    wait_until(lambda: len(master.workers()) == 4, "the fifth worker to leave")
    seen = len(answered)
    wait_until(lambda: len(answered) > seen + 20, "answers after the changes")
    traffic.finish()

    clients = [master.connect() for _ in range(40)]
    for client in clients:
        client.send("/slow?0.5")
    master.signal(signal.SIGTERM)
    answers = [client.answer() for client in clients]
    assert [answer.body for answer in answers] == [b"waited"] * 40
    assert {answer.headers["connection"] for answer in answers} == {"close"}
    assert master.wait() == 0
    assert "Traceback" not in master.log()


def test_term_is_noticed_at_once(gunicorn, wait_until):
    master = gunicorn()
    for exits in range(1, 4):  # each at another moment between two heartbeats
        master.get("/hello")
        (pid,) = master.workers()
        # The end of a connection wakes a stopping worker, too: only the listener may be left.
        wait_until(functools.partial(has_one_socket, pid), "the worker to be idle")
        started = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        master.wait_for_log("Worker exiting", times=exits)
        assert time.monotonic() - started < NOTICED_AT_ONCE_SECONDS
    assert master.stop() == 0


def test_term_closes_idle_connections_at_once(gunicorn):
    master = gunicorn("--keep-alive", "60")
    with master.connect() as client:
        client.get("/hello")
        started = time.monotonic()
        master.signal(signal.SIGTERM)
        assert client.closed_by_server()
        assert time.monotonic() - started < NOTICED_AT_ONCE_SECONDS
    assert master.wait() == 0


@pytest.mark.parametrize("earlier", [0, 1], ids=["first request", "second request"])
def test_term_waits_for_a_request_that_is_arriving(gunicorn, earlier):
    master = gunicorn("--keep-alive", "60")
    with master.connect() as client, master.connect() as idle:
        for _ in range(earlier):
            client.get("/hello")
        client.socket.sendall(b"GET /hello HTTP/1.1\r\nHost: loc")
        idle.get("/slow?0.1")  # by now the first half has been read
        os.kill(master.workers()[0], signal.SIGTERM)
        assert idle.closed_by_server()  # by now the worker is stopping
        client.socket.sendall(b"alhost\r\n\r\n")
        answer = client.answer()
        assert answer.body == b"hello"
        assert answer.headers["connection"] == "close"


def test_term_does_not_wait_long_for_half_a_request(gunicorn):
    master = gunicorn("--keep-alive", "60", "--graceful-timeout", "30")
    with master.connect() as client:
        client.socket.sendall(b"GET /hello HTTP/1.1\r\n")
        master.get("/slow?0.1")
        started = time.monotonic()
        master.signal(signal.SIGTERM)
        assert client.closed_by_server()
        assert master.wait() == 0
        assert time.monotonic() - started < 8


def test_term_lets_a_streamed_answer_end(gunicorn):
    master = gunicorn("--keep-alive", "60")
    with master.connect() as client:
        client.send("/drip?1")
        assert client.socket.recv(1, socket.MSG_PEEK)  # the head is on its way
        master.signal(signal.SIGTERM)
        assert client.answer().body == b"first,last"
        assert client.closed_by_server()
    assert master.wait() == 0


def test_graceful_timeout_is_the_end(gunicorn):
    master = gunicorn("--graceful-timeout", "1")
    with master.connect() as client:
        client.send("/slow?60")
        master.get("/slow?0.1")
        os.kill(master.workers()[0], signal.SIGTERM)
        master.wait_for_log("Worker graceful timeout")
        assert client.closed_by_server()
    assert "Traceback" not in master.log()


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_quit_does_not_wait_for_requests(gunicorn, tmp_path, number):
    config = tmp_path / "conf.py"
    config.write_text(
        "import time\n"
        "def worker_int(worker):\n"
        "    time.sleep(0.1)\n"  # the hook may wait
        "    worker.log.info('the hook has run')\n"
    )
    master = gunicorn("-c", str(config))
    with master.connect() as client:
        client.send("/slow?60")
        master.get("/slow?0.1")
        started = time.monotonic()
        master.signal(number)
        assert master.wait() == 0
        assert time.monotonic() - started < STOPPED_AT_ONCE_SECONDS
    assert "the hook has run" in master.log()
    assert "exited with code" not in master.log()


def test_usr1_reopens_the_logs(gunicorn, tmp_path, wait_until):
    path = tmp_path / "access.log"
    master = gunicorn("--access-logfile", str(path))
    master.get("/hello")
    path.rename(tmp_path / "access.log.1")
    master.signal(signal.SIGUSR1)

    def logged_again():
        master.get("/hello")
        return path.exists() and "/hello" in path.read_text()

    wait_until(logged_again, "an entry in the new log file")


@pytest.mark.parametrize("keep_alive", ["0", "20"])
def test_max_requests_loses_none(gunicorn, keep_alive):
    master = gunicorn("--max-requests", "4", "--keep-alive", keep_alive)
    pids = [master.get("/pid").body for _ in range(12)]
    assert [pids.count(pid) for pid in sorted(set(pids), key=pids.index)] == [4, 4, 4]


def test_max_requests_announces_the_close(gunicorn):
    with gunicorn("--max-requests", "2", "--keep-alive", "20").connect() as client:
        assert client.get("/hello").headers["connection"] == "keep-alive"
        assert client.get("/hello").headers["connection"] == "close"
        assert client.closed_by_server()


def test_reuse_port_serves_what_was_queued_at_the_stop(gunicorn, wait_until):
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        master = gunicorn("--reuse-port", "--keep-alive", "20", bind=f"127.0.0.1:{port}")

        def served():
            with contextlib.suppress(ConnectionRefusedError):
                return master.get("/hello").body == b"hello"

        wait_until(served, "the worker to listen")
        with master.connect() as first:
            first.send("/spin?1", close=True)
            queued = [master.connect() for _ in range(10)]
            for client in queued:
                client.send("/hello")
            master.signal(signal.SIGTERM)  # while the worker spins, the ten wait in the kernel
            assert first.answer().body == b"spun"
            assert [client.answer().body for client in queued] == [b"hello"] * 10
        assert master.wait() == 0


def test_blocked_worker_is_replaced(gunicorn):
    master = gunicorn("--timeout", "1")
    before = master.get("/pid").body.decode()
    with master.connect() as client:
        client.send("/spin?60", close=True)
        master.wait_for_log(rf"WORKER TIMEOUT \(pid:{before}\)")
        master.wait_for_log(rf"Worker \(pid:{before}\) exited with code 1")
    assert master.get("/pid").body.decode() != before


def test_waiting_worker_is_not_replaced(gunicorn):
    master = gunicorn("--timeout", "1")
    before = master.get("/pid").body
    assert master.get("/slow?3").body == b"waited"
    assert master.get("/pid").body == before
    assert "WORKER TIMEOUT" not in master.log()


def test_waiting_worker_is_not_replaced_while_it_stops(gunicorn):
    master = gunicorn("--timeout", "1")
    with master.connect() as client:
        client.send("/slow?3", close=True)
        master.get("/slow?0.1")
        os.kill(master.workers()[0], signal.SIGTERM)
        assert client.answer().body == b"waited"
    assert "WORKER TIMEOUT" not in master.log()


def test_orphan_leaves(gunicorn, wait_until):
    master = gunicorn()
    master.get("/hello")
    orphans = master.workers()
    master.process.kill()
    wait_until(lambda: all(map(ended, orphans)), "the orphan to leave")


def test_master_stays_free_of_hub_and_threads(gunicorn):
    master = gunicorn("-w", "2")
    master.get("/hello")
    master.signal(signal.SIGHUP)  # loads the class once more
    master.wait_for_log("Booting worker with pid", times=4)
    assert master.get("/hello").body == b"hello"
    pid = master.process.pid
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    assert not [link for link in descriptors(pid) if "eventpoll" in link or "eventfd" in link]


def test_fresh_worker_has_no_helper_threads(gunicorn):
    master = gunicorn()
    master.get("/hello")
    (worker,) = master.workers()
    assert len(list(Path(f"/proc/{worker}/task").iterdir())) == 1
    assert any("eventpoll" in link for link in descriptors(worker))


def test_application_that_fails_to_load_stops_the_master(gunicorn):
    assert gunicorn(app="there_is_no_such_module:app", wait=False).wait() == 3


def test_threads_setting_is_answered_with_a_warning(gunicorn):
    gunicorn("--threads", "4").wait_for_log("ignores --threads")
