"""Measure one task on one side, in this process: task.py NAME --side peer|ours [--quick].

Prints the costs of one operation as a JSON list, one entry per round. A process never sees both
sides: code shared by them would be specialised for one and slow for the other.
"""

import argparse
import json

import hub_tasks
import raw_tasks
import socket_tasks
from measure import Side

TASKS = {task.name: task for task in (*raw_tasks.TASKS, *hub_tasks.TASKS, *socket_tasks.TASKS)}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=TASKS)
    parser.add_argument("--side", choices=("peer", "ours"), required=True)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    options = parser.parse_args()
    print(json.dumps(TASKS[options.name].rounds(Side(options.side), options.quick)))


if __name__ == "__main__":
    main()
