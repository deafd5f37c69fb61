"""Load for an echo server: echo_load.py PORT CONNECTIONS ROUNDS MESSAGE_BYTES.

Connects, waits for the end of its standard input, and then in each round sends one message on
every connection and reads all the answers. Nothing but blocking sockets of the standard library.
"""

import socket
import sys

SECONDS_MAX = 60


def main() -> None:
    """Run as the arguments say; fail if an answer differs from what was sent."""
    port, connections, rounds, message_bytes = map(int, sys.argv[1:])
    message = b"x" * message_bytes
    sockets = [
        socket.create_connection(("127.0.0.1", port), SECONDS_MAX) for _ in range(connections)
    ]
    for each in sockets:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sys.stdin.read()
    for _ in range(rounds):
        for each in sockets:
            each.sendall(message)
        for each in sockets:
            answer = each.recv(message_bytes, socket.MSG_WAITALL)
            if answer != message:
                sys.exit(f"got {len(answer)} bytes back")
    for each in sockets:
        each.close()


if __name__ == "__main__":
    main()
