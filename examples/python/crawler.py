"""Fetch 200 pages of a slow server at once, with nothing but the standard library.

Patching makes the blocking calls of urllib, and of the threads of the server, cooperative. Every
page takes the server half a second; all of them together take little more.
"""

import rgevent

rgevent.patch_all()

import time  # noqa: E402
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: E402
from urllib.request import ProxyHandler, build_opener  # noqa: E402

PAGES = 200
PAGE_SECONDS = 0.5


class SlowPages(BaseHTTPRequestHandler):
    """Answers each path with its own name, after a while."""

    def do_GET(self) -> None:
        time.sleep(PAGE_SECONDS)
        body = f"this is {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class SlowServer(ThreadingHTTPServer):
    request_queue_size = PAGES  # everybody knocks at the same moment


def main() -> None:
    server = SlowServer(("127.0.0.1", 0), SlowPages)
    serving = rgevent.spawn(server.serve_forever)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    opener = build_opener(ProxyHandler({}))

    def fetch(path: str) -> str:
        with opener.open(address + path) as page:
            return page.read().decode()

    started = time.monotonic()
    paths = [f"/page/{number}" for number in range(PAGES)]
    crawlers = [rgevent.spawn(fetch, path) for path in paths]
    rgevent.joinall(crawlers)
    seconds = time.monotonic() - started

    right = sum(
        crawler.value == f"this is {path}\n" for path, crawler in zip(paths, crawlers, strict=True)
    )
    print(f"{right} of {PAGES} pages")
    print(f"one after the other: {PAGES * PAGE_SECONDS:.0f} s")
    print("at once: less than a tenth of that:", seconds < PAGES * PAGE_SECONDS / 10)
    serving.kill()
    server.server_close()


if __name__ == "__main__":
    main()
