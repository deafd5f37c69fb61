"""The application that the worker's tests serve. A path names what to do, the query how."""

import os
import time

running = 0
running_max = 0


def hello(environ, query):
    return [b"hello"]


def pid(environ, query):
    return [str(os.getpid()).encode()]


def slow(environ, query):
    """Wait `query` seconds, letting the others go on."""
    global running, running_max
    running += 1
    running_max = max(running_max, running)
    time.sleep(float(query))
    running -= 1
    return [b"waited"]


def most(environ, query):
    """How many slow requests there were at once."""
    return [str(running_max).encode()]


def spin(environ, query):
    """Keep the hub from turning for `query` seconds."""
    limit = time.monotonic() + float(query)
    while time.monotonic() < limit:
        pass
    return [b"spun"]


def leave(environ, query):
    raise {"exit": SystemExit, "interrupt": KeyboardInterrupt}[query]


def drip(environ, query):
    """Send a first part at once, the rest `query` seconds later."""

    def parts():
        yield b"first,"
        time.sleep(float(query))
        yield b"last"

    return parts()


def file(environ, query):
    return environ["wsgi.file_wrapper"](open(query, "rb"))


def echo(environ, query):
    return [environ["wsgi.input"].read()]


def scheme(environ, query):
    return [environ["wsgi.url_scheme"].encode()]


PAGES = {
    f"/{page.__name__}": page
    for page in (hello, pid, slow, most, spin, leave, drip, file, echo, scheme)
}


def app(environ, start_response):
    body = PAGES[environ["PATH_INFO"]](environ, environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return body
