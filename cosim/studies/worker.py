"""A worker of a study: reads requests from stdin and writes outcomes to stdout, a line of JSON each.

It ends at once when stdin does, which is when the process that started it is gone: what
it was at is left as a run that was killed.
"""

import gc
import json
import os
import queue
import signal
import sys
import threading
from typing import Any, TextIO


def main() -> None:
    """Do requests until nobody hands them out any more."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not come between the replies
    # As on the command line. To look for garbage as often as by default takes 4 % of a run.
    gc.set_threshold(10_000)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the study, which closes stdin
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()

    from cosim.studies.execute import RunRequest, perform

    while True:
        outcome = perform(RunRequest(**requests.get()))
        replies.write(json.dumps(vars(outcome)) + "\n")
        replies.flush()


def _listen(lines: TextIO, requests: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in lines:
        requests.put(json.loads(line))
    os._exit(0)
