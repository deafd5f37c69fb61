"""The gunicorn worker: ``gunicorn -k rgevent app:app``.

One process, one hub, a greenlet for each connection. gunicorn's own ``AsyncWorker`` parses the
requests and writes the answers; this module decides when to accept, when to stop and for whom a
stopping worker waits.

The class is loaded in gunicorn's master, which forks. Nothing here makes a hub, opens a poller,
starts a thread or patches a module before ``init_process``.
"""

from __future__ import annotations

import array
import errno
import fcntl
import math
import os
import select
import socket
import ssl
import sys
import termios
import time
from types import FrameType
from typing import Any

from gunicorn.sock import ssl_context
from gunicorn.workers.base_async import AsyncWorker

import rgevent
import rgevent.socket
from rgevent.event import Event

__all__ = ["Worker"]

#: Connections taken in a row by a worker that has the listener to itself.
ACCEPTS_PER_TURN_MAX = 100
#: First and longest pause after a failed accept, doubled in between.
ACCEPT_PAUSE_MIN_SECONDS = 0.01
ACCEPT_PAUSE_MAX_SECONDS = 1.0
#: The connection failed before we took it; the next one may be fine.
ACCEPT_AGAIN = frozenset({errno.EAGAIN, errno.ECONNABORTED, errno.EINTR, errno.EPERM, errno.EPROTO})
#: A TLS handshake that takes longer is dropped.
HANDSHAKE_SECONDS = 10.0
#: A stopping worker gives a request that is still arriving this long to arrive.
ARRIVAL_GRACE_SECONDS = 2.0
#: How long killed request handlers may take to unwind.
KILL_SECONDS = 1.0
#: The longest time between two heartbeats.
HEARTBEAT_SECONDS = 1.0
#: gunicorn lets a worker_int hook's effects settle this long before the worker exits.
QUIT_PAUSE_SECONDS = 0.1
SIGNAL_BYTES_MAX = 4096


class Listener:
    """A listening socket whose name outlives it: gunicorn asks for the name with each connection,
    also with those that were taken just before it was closed.
    """

    __slots__ = ("name", "socket")

    def __init__(self, listener: Any) -> None:
        self.socket = listener
        self.name: Any = listener.getsockname()

    def getsockname(self) -> Any:
        """The address it was bound to."""
        return self.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)


class Connection:
    """A client's socket, and what its request loop is doing with it.

    gunicorn reads requests through it as if it were the socket. That is how a stopping worker
    tells a connection between two requests from one in the middle of a request.
    """

    __slots__ = ("arriving", "request", "served", "socket")

    def __init__(self, client: Any) -> None:
        self.socket = client
        self.request: Any = None  # being answered right now
        self.arriving = False  # bytes of the next request have been read
        self.served = False  # at least one request has been answered

    def recv(self, *args: Any) -> bytes:
        """Read from the socket; parameters and errors are ``socket.recv``'s."""
        data: bytes = self.socket.recv(*args)
        if data:
            self.arriving = True
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)

    def begin(self, request: Any) -> None:
        """`request` has arrived and is about to be answered."""
        self.request = request

    def end(self) -> None:
        """The request has been answered, well or badly."""
        self.request = None
        self.arriving = False
        self.served = True

    def idle(self) -> bool:
        """Whether the client has had an answer and sent nothing since."""
        if self.request is not None or self.arriving or not self.served:
            return False
        unread_bytes = array.array("i", [0])
        fcntl.ioctl(self.socket.fileno(), termios.FIONREAD, unread_bytes)
        return unread_bytes[0] == 0

    def hang_up(self) -> None:
        """Let the reader see the end of the stream; what is being written is not disturbed.

        Done on a duplicate, because a TLS socket's own ``shutdown`` also ends its TLS session.
        """
        with socket.socket(fileno=os.dup(self.socket.fileno())) as twin:
            twin.shutdown(socket.SHUT_RD)


class Worker(AsyncWorker):
    """Serves each connection in a greenlet. Made and driven by gunicorn's master."""

    sockets: list[Any]
    _alive = True
    _exit_code: int | None = None
    _terminated = False  # by a signal, not retired by max_requests or a reload
    #: Set whenever `run` has something to look at; None until `init_process`.
    _changed: Event | None = None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Warn about settings this worker has no use for. Called once in the master."""
        if cfg.threads > 1:
            log.warning("The rgevent worker ignores --threads: a greenlet serves each connection.")

    @property
    def alive(self) -> bool:
        """False once the worker has been told to stop. Setting it wakes `run` at once."""
        return self._alive

    @alive.setter
    def alive(self, value: bool) -> None:
        self._alive = value
        if not value:
            self._wake()

    def init_process(self) -> None:
        """Patch, take the listeners over, then let gunicorn load the application and `run`."""
        rgevent.patch_all()
        self._changed = Event()
        self._room = Event()
        self._room.set()
        self._connections: dict[Any, Connection] = {}  # by the greenlet that serves it
        self.sockets = [
            rgevent.socket.socket(s.FAMILY, socket.SOCK_STREAM, fileno=s.sock.detach())
            for s in self.sockets
        ]
        super().init_process()

    def run(self) -> None:
        """Serve until told to stop, then finish what has begun.

        Raises SystemExit if a signal asked to leave at once.
        """
        context = ssl_context(self.cfg) if self.cfg.is_ssl else None
        rgevent.spawn(self._drain_signal_pipe)
        listeners = [Listener(sock) for sock in self.sockets]
        acceptors = [rgevent.spawn(self._accept, listener, context) for listener in listeners]
        while self.alive:
            self._beat(HEARTBEAT_SECONDS)
        rgevent.killall(acceptors, block=True)
        for listener in listeners:
            self._accept_queued(listener, context)
            listener.socket.close()
        self._finish()

    def notify(self) -> None:
        """Tell the master that the hub turns; stop gracefully when the master is gone."""
        super().notify()
        if self.alive and self.ppid != os.getppid():
            self.log.info("Parent changed, shutting down: %s", self)
            self.alive = False

    # Signals. The handlers run in whichever greenlet is current, possibly the hub: they never wait.

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully."""
        self._terminated = True
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Leave at once, after the ``worker_int`` hook, which may wait."""
        rgevent.spawn(self._quit)

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """Reopen the log files, in a greenlet because another may hold the log's lock."""
        rgevent.spawn(super().handle_usr1, sig, frame)

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """The master saw no heartbeat. Raises SystemExit in the code that blocks the hub."""
        self._exit_code = 1  # `run` leaves with it even if that code swallows the exception
        self._wake()
        super().handle_abort(sig, frame)

    def _quit(self) -> None:
        try:
            self.cfg.worker_int(self)
        except Exception:
            self.log.exception("Exception in worker_int hook")
        rgevent.sleep(QUIT_PAUSE_SECONDS)
        self._exit_code = 0
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def _beat(self, seconds: float) -> None:
        """Notify the master, then wait up to `seconds` for a change.

        Raises SystemExit once an exit code is known.
        """
        assert self._changed is not None
        self.notify()
        # self.timeout is half of the setting, and 0 stands for "no limit".
        self._changed.wait(min(seconds, self.timeout or HEARTBEAT_SECONDS))
        self._changed.clear()
        if self._exit_code is not None:
            sys.exit(self._exit_code)

    def _drain_signal_pipe(self) -> None:
        """Read the bytes that the C level writes for each signal.

        Waiting on them also wakes the hub for a signal that came as it was going to sleep.
        """
        while True:
            select.select([self.PIPE[0]], [], [])
            try:
                os.read(self.PIPE[0], SIGNAL_BYTES_MAX)
            except BlockingIOError:
                continue

    # Accepting.

    def _accept(self, listener: Listener, context: ssl.SSLContext | None) -> None:
        """Take connections while there is room for them."""
        # Workers that share a listener take turns, so that one does not swallow the whole queue.
        turn = 1 if self.cfg.workers > 1 else ACCEPTS_PER_TURN_MAX
        taken = 0
        pause = 0.0
        listener.socket.setblocking(True)
        while True:
            self._room.wait()
            try:
                client, addr = listener.socket.accept()
            except OSError as error:
                if error.errno in ACCEPT_AGAIN:
                    continue
                if not pause:
                    self.log.warning("Cannot accept connections, trying again: %s", error)
                pause = min(max(pause * 2, ACCEPT_PAUSE_MIN_SECONDS), ACCEPT_PAUSE_MAX_SECONDS)
                rgevent.sleep(pause)
                continue
            pause = 0.0
            self._start(listener, client, addr, context)
            taken += 1
            if taken % turn == 0:
                rgevent.sleep(0)

    def _accept_queued(self, listener: Listener, context: ssl.SSLContext | None) -> None:
        """Take what the kernel has queued for a listener that is about to be closed.

        A queue of our own (``reuse_port``) is taken whole, for closing resets its connections. A
        shared one is taken as far as there is room, in case every worker is being terminated; a
        worker that retires leaves it to its successor.
        """
        listener.socket.setblocking(False)
        for _ in range(self.cfg.backlog):
            if not self.cfg.reuse_port and not (self._terminated and self._room.is_set()):
                return
            try:
                client, addr = listener.socket.accept()
            except OSError as error:
                if error.errno == errno.ECONNABORTED:
                    continue
                return
            self._start(listener, client, addr, context)

    def _start(
        self, listener: Listener, client: Any, addr: Any, context: ssl.SSLContext | None
    ) -> None:
        connection = Connection(client)
        greenlet = rgevent.spawn(self._serve, listener, connection, addr, context)
        self._connections[greenlet] = connection
        if len(self._connections) >= self.worker_connections:
            self._room.clear()

    # Serving.

    def _serve(
        self,
        listener: Listener,
        connection: Connection,
        addr: Any,
        context: ssl.SSLContext | None,
    ) -> None:
        """Serve one connection from its first byte to its end."""
        try:
            connection.socket.setblocking(True)
            if context is None:
                self.handle(listener, connection, addr)
            elif self._secure(connection, context):
                # gunicorn recognises HTTP/2 by the type of the socket.
                if connection.socket.selected_alpn_protocol() == "h2":
                    self.handle(listener, connection.socket, addr)
                else:
                    self.handle(listener, connection, addr)
        finally:
            connection.socket.close()
            self._connections.pop(rgevent.getcurrent(), None)
            self._room.set()
            if not self.alive:
                self._wake()

    def _secure(self, connection: Connection, context: ssl.SSLContext) -> bool:
        """Do the TLS handshake. False if the client failed it, which is its own affair."""
        try:
            with rgevent.Timeout(HANDSHAKE_SECONDS, False):
                connection.socket = context.wrap_socket(
                    connection.socket,
                    server_side=True,
                    do_handshake_on_connect=False,
                    suppress_ragged_eofs=self.cfg.suppress_ragged_eofs,
                )
                connection.socket.do_handshake()
                return True
            self.log.debug("TLS handshake timed out")
        except OSError as error:  # ssl.SSLError is one
            self.log.debug("TLS handshake failed: %s", error)
        return False

    def timeout_ctx(self) -> Any:
        """Bound the wait for a request and its head by ``keepalive`` seconds."""
        return rgevent.Timeout(self.cfg.keepalive, False)

    def is_already_handled(self, respiter: Any) -> bool:
        """Close without a word when the application says that it has taken the socket.

        Raises StopIteration then.
        """
        if super().is_already_handled(respiter):
            raise StopIteration
        return False

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """Answer one HTTP/1 request."""
        connection = self._connections[rgevent.getcurrent()]
        connection.begin(req)
        try:
            return super().handle_request(listener_name, req, connection.socket, addr)
        finally:
            connection.end()

    def handle_http2_request(
        self, listener_name: Any, req: Any, sock: Any, addr: Any, h2_conn: Any
    ) -> Any:
        """Answer one HTTP/2 stream."""
        connection = self._connections[rgevent.getcurrent()]
        connection.begin(req)
        try:
            return super().handle_http2_request(
                listener_name, req, connection.socket, addr, h2_conn
            )
        finally:
            connection.end()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Log and answer what went wrong, except for a handler that we killed ourselves."""
        if not isinstance(exc, rgevent.GreenletExit):
            super().handle_error(req, client, addr, exc)

    # Stopping.

    def _finish(self) -> None:
        """Wait up to ``graceful_timeout`` seconds for the requests in progress, then kill them."""
        now = time.monotonic()
        deadline = now + self.cfg.graceful_timeout
        arrival_deadline = now + ARRIVAL_GRACE_SECONDS
        for connection in self._connections.values():
            if connection.request is not None:
                connection.request.force_close()
        self._hang_up(only_idle=True)
        while self._connections:
            now = time.monotonic()
            if now >= deadline:
                break
            if now >= arrival_deadline:
                self._hang_up(only_idle=False)
                arrival_deadline = math.inf
            self._beat(min(deadline, arrival_deadline) - now)
        else:
            return
        self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
        rgevent.killall(list(self._connections), block=True, timeout=KILL_SECONDS)

    def _hang_up(self, *, only_idle: bool) -> None:
        for connection in list(self._connections.values()):
            try:
                if connection.idle() or (not only_idle and connection.request is None):
                    connection.hang_up()
            except (OSError, ValueError) as error:  # ValueError: the socket has just been closed
                self.log.debug("Cannot hang up: %s", error)
