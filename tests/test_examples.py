"""Each Python example runs as written and says what it promises."""

import pytest

EXPECTED = {
    "pingpong.py": ["foo1.1", "foo2.1", "foo1.2"],
    "producer_consumer.py": [
        "squares: [0, 1, 4, 9, 16, 25]",
        "taken by each consumer: [3, 3]",
    ],
    "crawler.py": [
        "200 of 200 pages",
        "one after the other: 100 s",
        "at once: less than a tenth of that: True",
    ],
    "chat.py --demo": [
        "* ada comes in",
        "* bob comes in",
        "* cid comes in",
        "bob: hello, all",
        "cid: hello, bob",
        "* bob leaves",
        "* cid leaves",
    ],
    "rocket.py": ["/ Hello World!", "/slow waited 0.5 s"],
}


@pytest.mark.parametrize("command", EXPECTED)
def test_example_prints(command, run_python, root):
    name, *arguments = command.split()
    done = run_python(root / "examples" / "python" / name, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == EXPECTED[command]


def test_every_example_is_run(root):
    present = {path.name for path in (root / "examples" / "python").glob("*.py")}
    assert present == {command.split()[0] for command in EXPECTED}
