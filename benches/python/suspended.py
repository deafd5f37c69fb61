"""Suspend many greenlets, see that every one is well, and say what they take.

suspended.py N [--module rgevent.greenlet]
"""

import argparse
import importlib
import time

from measure import memory


def main() -> None:
    """Start them, switch to each twice, end them; fails if one does not answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int, metavar="N")
    parser.add_argument("--module", default="rgevent.greenlet")
    options = parser.parse_args()
    module = importlib.import_module(options.module)
    back = module.getcurrent().switch

    def answers(number: int) -> int:
        value = back(number)
        while value is not None:
            value = back(number + value)
        return -number

    began = time.process_time()
    greenlets = [module.greenlet(answers) for _ in range(options.number)]
    unstarted = memory()
    for number, each in enumerate(greenlets):
        if each.switch(number) != number:
            raise SystemExit(f"greenlet {number} did not start well")
    suspended = memory()
    for turn in (1, 2):
        for number, each in enumerate(greenlets):
            if each.dead or each.switch(turn) != number + turn:
                raise SystemExit(f"greenlet {number} does not answer")
    print(f"{options.number} suspended greenlets of {options.module}, all alive and answering")
    for name, before, after in zip(("RSS", "page tables"), unstarted, suspended, strict=True):
        total = (after - before) / 1024
        print(f"{name}: {total / options.number:.2f} KiB each, {total / 1024:.0f} MiB in all")
    for number, each in enumerate(greenlets):
        if each.switch(None) != -number or not each.dead:
            raise SystemExit(f"greenlet {number} did not end well")
    print(f"all ended; {time.process_time() - began:.2f} s of CPU time")


if __name__ == "__main__":
    main()
