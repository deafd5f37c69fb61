"""What a client sees of the worker while it serves."""

import contextlib
import socket
import ssl
import time

import pytest


@pytest.mark.parametrize("name", ["rgevent", "rgevent.gunicorn.Worker", "egg:rgevent#worker"])
def test_worker_is_found_by_every_name(gunicorn, name):
    assert gunicorn(worker=name).get("/hello").body == b"hello"


def test_200_slow_requests_at_once(gunicorn):
    master = gunicorn()
    master.get("/hello")
    started = time.monotonic()
    clients = [master.connect() for _ in range(200)]
    for client in clients:
        client.send("/slow?0.5", close=True)
    assert [client.answer().status for client in clients] == [200] * 200
    assert time.monotonic() - started < 2


def test_one_connection_serves_many_requests(gunicorn):
    with gunicorn("--keep-alive", "20").connect() as client:
        answers = [client.get("/echo", body=bytes([i]) * i) for i in range(1, 20)]
        assert [answer.body for answer in answers] == [bytes([i]) * i for i in range(1, 20)]
        assert {answer.headers["connection"] for answer in answers} == {"keep-alive"}


def test_idle_connection_is_closed_after_the_keepalive_time(gunicorn):
    with gunicorn("--keep-alive", "1").connect() as client:
        client.get("/hello")
        started = time.monotonic()
        assert client.closed_by_server()
        assert 0.5 < time.monotonic() - started < 5


def test_keepalive_0_closes_after_each_answer(gunicorn):
    with gunicorn("--keep-alive", "0").connect() as client:
        assert client.get("/hello").headers["connection"] == "close"
        assert client.closed_by_server()


def test_unix_socket(gunicorn, monkeypatch):
    master = gunicorn(bind="unix:worker.sock")
    monkeypatch.chdir(master.directory)
    assert master.get("/hello").body == b"hello"


def test_several_listeners(gunicorn):
    master = gunicorn("-b", "unix:second.sock")
    assert master.get("/hello").body == b"hello"
    master.bind = f"unix:{master.directory}/second.sock"
    assert master.get("/hello").body == b"hello"


@pytest.fixture
def tls_options(root):
    pem = str(root / "tests" / "certs" / "localhost.pem")
    return ["--certfile", pem, "--keyfile", pem]


def test_tls(gunicorn, root, tls_options):
    context = ssl.create_default_context(cafile=root / "tests" / "certs" / "localhost.pem")
    with gunicorn("--keep-alive", "20", *tls_options).connect(context=context) as client:
        assert client.get("/scheme").body == b"https"
        body = b"x" * 300_000
        assert client.get("/echo", body=body).body == body


def test_failed_handshake_is_nobodys_error(gunicorn, root, tls_options):
    context = ssl.create_default_context(cafile=root / "tests" / "certs" / "localhost.pem")
    master = gunicorn("--log-level", "debug", *tls_options)
    with master.connect() as client:
        client.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            client.file.read()
    master.wait_for_log("TLS handshake failed")
    with master.connect(context=context) as client:
        assert client.get("/hello").body == b"hello"
    assert "Traceback" not in master.log()
    assert "[ERROR]" not in master.log()


@pytest.mark.parametrize("options", [[], ["--no-sendfile"]])
def test_file_is_sent_whole(gunicorn, tmp_path, options):
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 4000)
    assert gunicorn(*options).get(f"/file?{path}").body == path.read_bytes()


@pytest.mark.parametrize("how", ["exit", "interrupt"])
def test_application_cannot_end_the_worker(gunicorn, how):
    master = gunicorn()
    before = master.get("/pid").body
    assert master.get(f"/leave?{how}").status == 500
    assert master.get("/pid").body == before


def test_bad_request_is_refused_and_closed(gunicorn):
    with gunicorn().connect() as client:
        client.socket.sendall(b"rubbish\r\n\r\n")
        assert client.answer().status == 400
        assert client.closed_by_server()


def test_access_log(gunicorn):
    master = gunicorn("--access-logfile", "-", "--access-logformat", "%(m)s %(U)s %(s)s %(B)s")
    master.get("/hello")
    master.wait_for_log(r"GET /hello 200 5")


def test_worker_connections_is_a_limit_for_the_worker(gunicorn):
    master = gunicorn("--worker-connections", "3", "-b", "unix:second.sock")
    clients = [master.connect() for _ in range(12)]
    for client in clients:
        client.send("/slow?0.1", close=True)
    assert [client.answer().status for client in clients] == [200] * 12
    assert int(master.get("/most").body) == 3


def test_running_out_of_descriptors_only_delays(gunicorn, tmp_path):
    config = tmp_path / "conf.py"
    config.write_text(
        "import resource\n"
        "def post_worker_init(worker):\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
    )
    master = gunicorn("-c", str(config), "--keep-alive", "20")
    master.get("/hello")
    clients = [master.connect() for _ in range(60)]
    master.wait_for_log("Cannot accept connections")
    for client in clients[:-1]:
        client.close()
    with clients[-1] as last:
        assert last.get("/hello").body == b"hello"


def test_one_worker_accepts_while_the_other_is_blocked(gunicorn):
    master = gunicorn("-w", "2")
    master.wait_for_log("Booting worker with pid", times=2)
    with master.connect() as client:
        client.send("/spin?1", close=True)
        started = time.monotonic()
        answers = 0
        while answers < 5:
            assert master.get("/hello").body == b"hello"
            answers += 1
        assert time.monotonic() - started < 1
        assert client.answer().body == b"spun"


def test_half_a_request_does_not_hold_up_others(gunicorn):
    master = gunicorn("--keep-alive", "20")
    with master.connect() as slow:
        slow.socket.sendall(b"GET /hello HTTP/1.1\r\nHost: loc")
        assert master.get("/hello").body == b"hello"
        slow.socket.sendall(b"alhost\r\nConnection: close\r\n\r\n")
        assert slow.answer().body == b"hello"


def test_client_that_goes_away_is_not_an_error(gunicorn):
    master = gunicorn()
    with master.connect() as client:
        client.send("/slow?0.1")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    master.get("/slow?0.3")
    assert "Traceback" not in master.log()
