"""Real gunicorn masters with rgevent workers, and a small client for them."""

import contextlib
import importlib.metadata
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
START_SECONDS = 20.0
STOP_SECONDS = 20.0
CLIENT_SECONDS = 20.0


@dataclass
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


class Client:
    """One connection. Requests are written and answers read when the test says so."""

    def __init__(self, sock):
        self.socket = sock
        self.socket.settimeout(CLIENT_SECONDS)
        self.file = sock.makefile("rb")

    def send(self, path, *, body=b"", close=False):
        head = [
            f"{'POST' if body else 'GET'} {path} HTTP/1.1",
            "Host: localhost",
            f"Content-Length: {len(body)}",
            *(["Connection: close"] if close else []),
            "\r\n",
        ]
        self.socket.sendall("\r\n".join(head).encode() + body)

    def answer(self):
        """Read one response. Raises EOFError if the server closed instead of answering."""
        line = self.file.readline()
        if not line:
            raise EOFError("closed without an answer")
        status = int(line.split()[1])
        headers = {}
        while (line := self.file.readline().strip()) != b"":
            name, value = line.decode("latin-1").split(":", 1)
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join(self.chunks())
        elif "content-length" in headers:
            body = self.file.read(int(headers["content-length"]))
        else:
            body = self.file.read()
        return Answer(status, headers, body)

    def chunks(self):
        while size := int(self.file.readline(), 16):
            yield self.file.read(size)
            self.file.readline()
        self.file.readline()

    def get(self, path, **options):
        self.send(path, **options)
        return self.answer()

    def closed_by_server(self):
        """Wait for the end of the stream; what comes before it must be nothing."""
        return self.file.read() == b""

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Gunicorn:
    """A master in a process of its own, logging to a file."""

    def __init__(
        self, directory, *options, worker="rgevent", bind="127.0.0.1:0", app="app:app", wait=True
    ):
        self.directory = directory
        self.log_path = directory / "gunicorn.log"
        self.bind = bind
        self.clients = []
        version = tuple(map(int, importlib.metadata.version("gunicorn").split(".")[:2]))
        command = [sys.executable, "-m", "gunicorn", "-k", worker, "-b", bind]
        command += ["--pythonpath", str(HERE)]
        if version >= (25, 1):
            command.append("--no-control-socket")  # it would run a thread in the master
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *options, app],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            if wait:
                self.wait_for_log(r"Booting worker with pid", START_SECONDS)
        except BaseException:
            self.kill()
            raise

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, pattern, seconds=10.0, times=1):
        """Wait until `pattern` has been logged `times` times; the matches."""
        limit = time.monotonic() + seconds
        while True:
            found = re.findall(pattern, self.log())
            if len(found) >= times:
                return found
            assert time.monotonic() < limit, f"no {pattern!r} in {seconds} s:\n{self.log()}"
            assert self.process.poll() is None, f"gunicorn ended:\n{self.log()}"
            time.sleep(0.01)

    def address(self):
        """Where it listens, in the form that `socket.connect` takes."""
        if self.bind.startswith("unix:"):
            return self.bind.removeprefix("unix:")
        host, port = self.bind.rsplit(":", 1)
        if port == "0":
            port = self.wait_for_log(r"Listening at: https?://[^ ,]*:(\d+)[ ,]", START_SECONDS)[0]
        return host, int(port)

    def connect(self, *, context=None):
        """A new connection, over TLS if a context is given. Closed by the end of the test."""
        address = self.address()
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(CLIENT_SECONDS)
            sock.connect(address)
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname="localhost")
        except BaseException:
            sock.close()
            raise
        client = Client(sock)
        self.clients.append(client)
        return client

    def get(self, path, **options):
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.get(path, close=True, **options)

    def workers(self):
        """The pids of the workers that live now."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=STOP_SECONDS):
        """Wait for the master's end; its exit status."""
        return self.process.wait(seconds)

    def stop(self):
        """TERM, and wait for the end; the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        """End whatever is left, the hard way."""
        for client in self.clients:
            client.close()
        if self.process.poll() is None:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for pid in self.workers():
                    os.kill(pid, signal.SIGKILL)
            self.process.kill()
        self.process.wait(STOP_SECONDS)


@pytest.fixture
def gunicorn(tmp_path):
    """``gunicorn(*options, worker=, bind=)`` starts a master; it is gone when the test ends."""
    running = []

    def start(*options, **settings):
        directory = tmp_path / str(len(running))
        directory.mkdir()
        master = Gunicorn(directory, *options, **settings)
        running.append(master)
        return master

    yield start
    for master in running:
        master.kill()
