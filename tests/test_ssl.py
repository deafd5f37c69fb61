"""TLS over cooperative sockets: the standard classes' behaviour, without stopping others."""

import contextlib
import gc
import ssl as stdlib
import subprocess
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rgevent
from rgevent import socket, ssl

CERTIFICATE = Path(__file__).parent / "certs" / "localhost.pem"


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    with rgevent.Timeout(60):
        yield


@pytest.fixture(scope="module")
def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture(scope="module")
def client_context() -> Any:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


@pytest.fixture
def plain() -> Iterator[tuple[socket.socket, socket.socket]]:
    first, second = socket.socketpair()
    with first, second:
        yield first, second


@pytest.fixture
def pair(plain: Any, server_context: Any, client_context: Any) -> Iterator[tuple[Any, Any]]:
    """A connected (client, server)."""
    accepting = rgevent.spawn(server_context.wrap_socket, plain[1], server_side=True)
    with (
        client_context.wrap_socket(plain[0], server_hostname="localhost") as client,
        accepting.get(timeout=10) as server,
    ):
        yield client, server


def receive(tls: Any, size: int) -> bytes:
    parts = []
    while size > 0:
        part = tls.recv(min(size, 65536))
        assert part, "the other side closed too early"
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def test_sockets_are_of_our_class_and_of_the_standard_ones(pair: Any) -> None:
    for tls in pair:
        assert type(tls) is ssl.SSLSocket
        assert isinstance(tls, stdlib.SSLSocket)
        assert isinstance(tls, socket.socket)
    assert issubclass(ssl.SSLContext, stdlib.SSLContext)


def test_echo_over_tcp(server_context: Any, client_context: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server_context.wrap_socket(listener, server_side=True) as tls_listener:
            connection, address = tls_listener.accept()
            with connection:
                assert address[0] == "127.0.0.1"
                while data := connection.recv(1000):
                    connection.sendall(data.upper())

    serving = rgevent.spawn(serve)
    plain = socket.create_connection(listener.getsockname())
    with client_context.wrap_socket(plain, server_hostname="localhost") as client:
        for message in (b"one", b"two", b"three"):
            client.sendall(message)
            assert receive(client, len(message)) == message.upper()
        assert client.version().startswith("TLS")
        assert client.getpeercert()["subjectAltName"][0] == ("DNS", "localhost")
        assert client.pending() == 0
    serving.get(timeout=10)


def test_wrapped_socket_has_taken_the_descriptor(plain: Any, client_context: Any) -> None:
    first, second = plain
    fd = first.fileno()
    with client_context.wrap_socket(
        first, server_hostname="localhost", do_handshake_on_connect=False
    ) as tls:
        assert tls.fileno() == fd
        assert first.fileno() == -1
        assert tls.gettimeout() is None
    assert second.recv(1) == b""


def test_connect_does_the_handshake(server_context: Any, client_context: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with server_context.wrap_socket(connection, server_side=True) as tls:
                tls.sendall(b"hello")

        serving = rgevent.spawn(serve)
        with client_context.wrap_socket(socket.socket(), server_hostname="localhost") as client:
            client.connect(listener.getsockname())
            assert receive(client, 5) == b"hello"
        serving.get(timeout=10)


def test_big_transfers_cross_in_both_directions(pair: Any) -> None:
    client, server = pair
    up, down = bytes(range(256)) * 12_000, b"down" * 700_000
    work = [
        rgevent.spawn(client.sendall, up),
        rgevent.spawn(server.sendall, down),
        rgevent.spawn(receive, server, len(up)),
        rgevent.spawn(receive, client, len(down)),
    ]
    rgevent.joinall(work, timeout=40, raise_error=True)
    assert work[2].value == up
    assert work[3].value == down


def test_many_connections_at_once(server_context: Any, client_context: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        together: list[Any] = []

        def serve(connection: Any) -> None:
            with server_context.wrap_socket(connection, server_side=True) as tls:
                together.append(tls)
                tls.sendall(tls.recv(100))
                tls.recv(1)

        def accept() -> None:
            for _ in range(30):
                rgevent.spawn(serve, listener.accept()[0])

        def visit(number: int) -> bytes:
            plain = socket.create_connection(listener.getsockname())
            with client_context.wrap_socket(plain, server_hostname="localhost") as client:
                while len(together) < 30:
                    rgevent.sleep(0.001)
                message = b"%d" % number
                client.sendall(message)
                return receive(client, len(message))

        accepting = rgevent.spawn(accept)
        visits = [rgevent.spawn(visit, number) for number in range(30)]
        rgevent.joinall(visits, timeout=40, raise_error=True)
        assert [visit.value for visit in visits] == [b"%d" % number for number in range(30)]
        accepting.get(timeout=5)


def test_read_times_out_and_the_connection_goes_on(pair: Any) -> None:
    client, server = pair
    client.settimeout(0.05)
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="The read operation timed out"):
        client.recv(1)
    assert time.monotonic() - begun >= 0.05
    assert client.gettimeout() == 0.05
    server.sendall(b"late")
    assert receive(client, 4) == b"late"


def test_write_times_out_when_nobody_reads(pair: Any) -> None:
    client, _ = pair
    client.settimeout(0.05)
    with pytest.raises(TimeoutError, match="The write operation timed out"):
        client.sendall(b"x" * 10_000_000)


def test_reading_keeps_its_deadline_when_records_trickle_in(
    plain: Any, client_context: Any
) -> None:
    """Bytes that complete no record do not prolong the wait."""
    first, second = plain
    first.settimeout(0.2)

    def trickle() -> None:
        second.send(b"\x16\x03\x03\x40\x00")  # A record of 16 KiB begins.
        while True:
            rgevent.sleep(0.01)
            second.send(b"x")

    trickling = rgevent.spawn(trickle)
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="The handshake operation timed out"):
        client_context.wrap_socket(first, server_hostname="localhost")
    assert 0.2 <= time.monotonic() - begun < 1.0
    trickling.kill()


def test_timeout_of_one_greenlet_is_not_seen_by_another(pair: Any) -> None:
    client, server = pair
    client.settimeout(30)
    reading = rgevent.spawn(client.recv, 1)
    rgevent.sleep(0.01)
    assert client.gettimeout() == 30
    server.sendall(b"x")
    assert reading.get(timeout=5) == b"x"


def test_non_blocking_socket_says_what_it_wants(pair: Any) -> None:
    client, _ = pair
    client.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        client.recv(1)
    with pytest.raises(ssl.SSLWantWriteError):
        client.sendall(b"x" * 10_000_000)


def test_killed_reader_loses_no_data(pair: Any) -> None:
    client, server = pair
    reading = rgevent.spawn(client.recv, 10)
    rgevent.sleep(0)
    reading.kill()
    assert isinstance(reading.value, rgevent.GreenletExit)
    server.sendall(b"kept")
    assert receive(client, 4) == b"kept"


def test_busy_connection_lets_others_run(pair: Any) -> None:
    """Reads that find decrypted data never wait, but give others turns."""
    client, server = pair
    server.sendall(b"x" * 2000)
    turns: list[int] = []

    def count() -> None:
        while True:
            turns.append(1)
            rgevent.sleep(0)

    assert client.recv(1) == b"x"
    counting = rgevent.spawn(count)
    for _ in range(1999):
        assert client.recv(1) == b"x"
    counting.kill()
    assert len(turns) >= 10


def test_closing_wakes_the_reader(pair: Any) -> None:
    client, _ = pair
    reading = rgevent.spawn(client.recv, 1)
    rgevent.sleep(0)
    client.close()
    reading.join(timeout=5)
    assert isinstance(reading.exception, OSError)
    assert client.fileno() == -1


def test_garbage_fails_the_handshake_on_both_sides(
    server_context: Any, client_context: Any
) -> None:
    for context, options in (
        (server_context, {"server_side": True}),
        (client_context, {"server_hostname": "localhost"}),
    ):
        first, second = socket.socketpair()
        with first, second:
            second.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(first, **options)


def test_peer_that_leaves_during_the_handshake(plain: Any, client_context: Any) -> None:
    first, second = plain
    handshake = rgevent.spawn(client_context.wrap_socket, first, server_hostname="localhost")
    rgevent.sleep(0)
    second.close()
    handshake.join(timeout=5)
    assert isinstance(handshake.exception, OSError)


def test_wrong_host_name_is_refused(plain: Any, server_context: Any, client_context: Any) -> None:
    first, second = plain
    accepting = rgevent.spawn(server_context.wrap_socket, second, server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        client_context.wrap_socket(first, server_hostname="elsewhere.test")
    accepting.join(timeout=5)
    assert isinstance(accepting.exception, OSError)


def test_unwrap_ends_tls_and_leaves_the_connection(pair: Any) -> None:
    client, server = pair
    closing = rgevent.spawn(server.unwrap)
    assert client.recv(1) == b""
    bare = client.unwrap()
    other = closing.get(timeout=5)
    bare.sendall(b"plain")
    assert other.recv(5) == b"plain"


def test_makefile_reads_lines(pair: Any) -> None:
    client, server = pair
    with client.makefile("rw", newline="\n") as near, server.makefile("rw", newline="\n") as far:
        answering = rgevent.spawn(far.readline)
        near.write("first\n")
        near.flush()
        assert answering.get(timeout=5) == "first\n"


def test_attributes_of_the_native_object_are_there(pair: Any, client_context: Any) -> None:
    client, server = pair
    assert client.server_hostname == "localhost"
    assert server.server_side
    assert client.context is client_context
    client.context = client_context
    assert client.cipher()
    assert client.get_channel_binding() is not None or client.version() == "TLSv1.3"


def test_unclosed_socket_goes_with_its_last_reference(plain: Any, client_context: Any) -> None:
    tls = client_context.wrap_socket(
        plain[0], server_hostname="localhost", do_handshake_on_connect=False
    )
    gone = weakref.ref(tls)
    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="unclosed"):
            del tls
        assert gone() is None
    finally:
        gc.enable()
    assert plain[1].recv(1) == b""


def test_use_from_native_threads(pair: Any) -> None:
    client, server = pair
    data = b"thread" * 100_000
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(receive(server, len(data))))
    reader.start()
    writer = threading.Thread(target=client.sendall, args=(data,))
    writer.start()
    for thread in (reader, writer):
        thread.join(30)
        assert not thread.is_alive()
    assert received == [data]


def test_server_certificate_is_fetched(server_context: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with server_context.wrap_socket(connection, server_side=True) as tls:
                with contextlib.suppress(ConnectionError):  # the client just goes away
                    tls.recv(1)

        serving = rgevent.spawn(serve)
        found = ssl.get_server_certificate(listener.getsockname(), timeout=10)
        assert found.strip() in CERTIFICATE.read_text()
        serving.get(timeout=5)


def test_https_under_patching_with_the_standard_modules(run_python: Any) -> None:
    script = textwrap.dedent(
        """
        import rgevent; rgevent.patch_all()
        import http.server, ssl, sys, threading, time, urllib.request

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                time.sleep(0.2)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        trusting = ssl.create_default_context(cafile=sys.argv[1])
        url = f"https://localhost:{server.server_port}/"

        def fetch():
            return urllib.request.urlopen(url, context=trusting, timeout=20).read()

        began = time.monotonic()
        jobs = [rgevent.spawn(fetch) for _ in range(10)]
        print([job.get() for job in jobs] == [b"ok"] * 10, time.monotonic() - began < 1.5)
        """
    )
    done: subprocess.CompletedProcess[str] = run_python("-c", script, CERTIFICATE)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr
