"""A Flask application that waits. `make serve` serves it from one process, hundreds at once.

The waiting is an ordinary ``time.sleep``: the worker has patched it before this file is loaded.
Run as a script, it shows what its pages say.
"""

import time

from flask import Flask

app = Flask(__name__)

SLOW_SECONDS = 0.5


@app.get("/")
def hello() -> str:
    return "Hello World!\n"


@app.get("/slow")
def slow() -> str:
    time.sleep(SLOW_SECONDS)
    return f"waited {SLOW_SECONDS} s\n"


if __name__ == "__main__":
    browser = app.test_client()
    for path in ("/", "/slow"):
        print(path, browser.get(path).text.strip())
