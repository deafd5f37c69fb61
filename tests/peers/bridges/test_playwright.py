"""Playwright's sync API runs its event loop in a greenlet. Tested where it is installed."""

import importlib.util

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None, reason="the playwright package is not installed"
)


def test_driver_starts_and_stops(program):
    program("""
        from playwright.sync_api import sync_playwright

        for _ in range(2):
            with sync_playwright() as playwright:
                assert playwright.chromium.name == "chromium"
                assert playwright.devices["iPhone 13"]["is_mobile"]
    """)


def test_calls_wait_for_the_driver(program):
    program("""
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
        from playwright.sync_api import Error, sync_playwright

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[::-1])

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        with sync_playwright() as playwright:
            context = playwright.request.new_context(timeout=10_000)
            for number in range(20):
                response = context.post(url, data=f"request {number}")
                assert response.ok
                assert response.text() == f"request {number}"[::-1]
            # The driver's error is raised by the call that asked.
            try:
                playwright.request.new_context(base_url=url, timeout=10_000).get("nowhere:1")
            except Error as error:
                assert "nowhere" in str(error), str(error)
            else:
                raise AssertionError("nowhere answered")
            context.dispose()
        server.shutdown()
        server.server_close()
    """)


@pytest.mark.slow
def test_chromium_shows_a_page(program):
    output = program("""
        import os
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
            if os.path.exists(path):
                browser = playwright.chromium.launch()
                page = browser.new_page()
                heard = []
                # A listener runs in a greenlet of its own, and may wait, too.
                page.on("console", lambda message: heard.append(message.args[0].json_value()))
                page.expose_function("double", lambda number: 2 * number)
                page.set_content("<title>Title</title><button>One</button>")
                assert page.title() == "Title"
                with page.expect_console_message():
                    page.evaluate("console.log('heard')")
                assert page.evaluate("double(21)") == 42
                assert page.locator("button").inner_text() == "One"
                assert heard == ["heard"]
                browser.close()
            else:
                print(path)
    """)
    if output:
        pytest.skip(f"no browser: {output.strip()} does not exist")
