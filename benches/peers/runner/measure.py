"""measure.py FIGURES LOG COMMAND…: runs a command and writes wall, CPU and memory of its whole process tree as JSON.

Orphans of the tree come to this process, so that the CPU of all is known exactly when they have ended. Memory is
the sum of what is resident, looked at ten times a second. What takes
longer than half an hour is ended.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
LIMIT_S = 1800
PAGE = os.sysconf("SC_PAGE_SIZE")


def children(pid: int) -> list[int]:
    return [int(c) for task in Path(f"/proc/{pid}/task").glob("*/children") for c in task.read_text().split()]


def resident(pid: int) -> int:
    """Bytes of the processes below `pid`."""
    total = 0
    for child in children(pid):
        try:
            total += int(Path(f"/proc/{child}/statm").read_text().split()[1]) * PAGE + resident(child)
        except (OSError, IndexError):
            pass  # it has ended
    return total


def main():
    figures, log, command = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    peak = 0

    def watch():
        nonlocal peak
        while True:
            peak = max(peak, resident(os.getpid()))
            time.sleep(0.1)

    began = time.monotonic()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    redirect = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    main_pid = os.posix_spawnp(command[0], command, os.environ, file_actions=redirect)
    threading.Thread(target=watch, daemon=True).start()
    limit = threading.Timer(LIMIT_S, os.kill, (main_pid, signal.SIGKILL))
    limit.start()
    status = os.waitpid(main_pid, 0)[1]
    limit.cancel()
    wall = time.monotonic() - began
    # What it left behind is ended, and counted.
    while left := children(os.getpid()):
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = max(peak, usage.ru_maxrss * 1024)
    cpu = usage.ru_utime + usage.ru_stime
    figures.write_text(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mb": peak / 1e6}))
    sys.exit(os.waitstatus_to_exitcode(status) != 0)


main()
