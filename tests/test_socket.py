"""Cooperative sockets: echo, timeouts, closing, and what the standard library promises."""

import errno
import gc
import os
import threading

import pytest

import rgevent
from rgevent import socket

# Sockets that a test leaves open are closed by the collector, which is what it should do.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning",
    "ignore:Exception ignored in. <rgevent:pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(autouse=True)
def collected():
    """They are not left for another test, which does not expect their warnings."""
    yield
    gc.collect()


@pytest.fixture
def echo_server():
    """The address of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept():
        while True:
            connection, _ = listener.accept()
            rgevent.spawn(serve, connection)

    accepting = rgevent.spawn(accept)
    yield listener.getsockname()
    accepting.kill()
    listener.close()
    listener.close()


def test_many_connections_at_once(echo_server):
    def talk(number):
        text = b"%d" % number * 100
        with socket.create_connection(echo_server, timeout=20) as connection:
            for _ in range(20):
                connection.sendall(text)
                got = b""
                while len(got) < len(text):
                    got += connection.recv(1000)
                assert got == text
        return number

    talks = [rgevent.spawn(talk, number) for number in range(100)]
    rgevent.joinall(talks, timeout=30)
    assert [talk.get(timeout=1) for talk in talks] == list(range(100))


def test_megabytes_arrive_whole_although_the_reader_is_slow():
    first, second = socket.socketpair()
    data = os.urandom(1 << 20) * 4
    sending = rgevent.spawn(first.sendall, data)
    got = bytearray()
    while len(got) < len(data):
        got += second.recv(1 << 17)
        rgevent.sleep(0)
    sending.get(timeout=5)
    assert bytes(got) == data


def test_timeouts_are_errors_and_leave_the_socket_usable():
    first, second = socket.socketpair()
    first.settimeout(0.01)
    assert first.gettimeout() == 0.01
    with pytest.raises(TimeoutError, match="timed out"):
        first.recv(1)
    second.sendall(b"x")
    assert first.recv(1) == b"x"


def test_a_socket_that_must_not_block_says_so():
    first, second = socket.socketpair()
    first.setblocking(False)
    with pytest.raises(BlockingIOError):
        first.recv(1)
    second.sendall(b"abc")
    assert first.recv(3) == b"abc"
    first.setblocking(True)
    assert first.gettimeout() is None


def test_closing_wakes_whoever_waits():
    first, _second = socket.socketpair()
    reading = rgevent.spawn(first.recv, 1)
    rgevent.sleep(0)
    first.close()
    with pytest.raises(OSError, match="closed") as caught:
        reading.get(timeout=5)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="Bad file descriptor"):
        first.recv(1)


def test_a_reused_fd_number_does_not_wake_the_old_waiter():
    first, second = socket.socketpair()
    number = first.fileno()
    reading = rgevent.spawn(first.recv, 1)
    rgevent.sleep(0)
    first.close()
    again, other = socket.socketpair()
    assert number in (again.fileno(), other.fileno())
    again.sendall(b"new")
    assert other.recv(3) == b"new"
    with pytest.raises(OSError, match="closed"):
        reading.get(timeout=5)
    second.close()


def test_a_killed_reader_leaves_the_data_for_the_next():
    first, second = socket.socketpair()
    reading = rgevent.spawn(first.recv, 1)
    rgevent.sleep(0)
    reading.kill()
    second.sendall(b"kept")
    assert first.recv(4) == b"kept"


def test_connecting_to_nobody_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    probe = socket.socket()
    assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_files_on_sockets(echo_server):
    with (
        socket.create_connection(echo_server, timeout=5) as connection,
        connection.makefile("rwb") as stream,
    ):
        stream.write(b"one\ntwo\n")
        stream.flush()
        assert [stream.readline(), stream.readline()] == [b"one\n", b"two\n"]


def test_datagrams_and_messages():
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiving = rgevent.spawn(receiver.recvfrom, 100)
    rgevent.sleep(0)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.sendto(b"hello", receiver.getsockname())
    data, address = receiving.get(timeout=5)
    assert (data, address[0]) == (b"hello", "127.0.0.1")


def test_unix_sockets(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    accepting = rgevent.spawn(listener.accept)
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "socket"))
    server, address = accepting.get(timeout=5)
    client.sendall(b"x")
    assert (server.recv(1), address) == (b"x", "")


def test_sendfile_moves_the_whole_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(300_000))
    first, second = socket.socketpair()
    with path.open("rb") as file:
        sending = rgevent.spawn(first.sendfile, file)
        got = b""
        while len(got) < 300_000:
            got += second.recv(65536)
        assert sending.get(timeout=5) == 300_000
    assert got == path.read_bytes()


def test_a_socket_used_from_another_native_thread():
    first, second = socket.socketpair()
    first.settimeout(5)
    second.settimeout(5)
    rgevent.spawn(second.sendall, b"warm").join()
    assert first.recv(4) == b"warm"
    got = []
    thread = threading.Thread(target=lambda: got.append(first.recv(5)))
    thread.start()
    second.sendall(b"there")
    while thread.is_alive():
        rgevent.sleep(0.01)
    assert got == [b"there"]


def test_waiting_for_a_foreign_fd():
    read, write = os.pipe()
    with pytest.raises(TimeoutError):
        socket.wait_read(read, timeout=0.01)
    waiting = rgevent.spawn(socket.wait_read, read, 5)
    rgevent.sleep(0)
    os.write(write, b"x")
    waiting.get(timeout=5)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_names_and_numbers_resolve_as_in_the_standard_library(host):
    import socket as standard

    def arguments(module):
        return module.getaddrinfo(host, 80, module.AF_INET, module.SOCK_STREAM)

    assert arguments(socket) == arguments(standard)
    assert socket.gethostbyname(host) == "127.0.0.1"


def test_a_bad_name_is_a_gaierror():
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("no such name!", 80)


def test_reader_killed_at_a_turn_for_others_loses_nothing():
    left, right = socket.socketpair()
    sent = bytes(range(250)) * 8
    left.sendall(sent)
    left.close()
    got = bytearray()

    def read():
        while byte := right.recv(1):
            got.extend(byte)

    reader = rgevent.spawn(read)
    while not got:
        rgevent.sleep(0)
    # The reader has not blocked: it only lets others run now and then.
    assert len(got) < len(sent)
    reader.kill()
    while rest := right.recv(4096):
        got.extend(rest)
    assert got == sent


def test_non_blocking_operations_never_switch():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    others = []
    other = rgevent.spawn(others.append, 1)
    for _ in range(1000):
        assert left.send(b"x") == 1
        assert right.recv(1) == b"x"
    assert others == []
    other.join(5)
    assert others == [1]
