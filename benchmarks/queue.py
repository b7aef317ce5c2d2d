"""No-op tasks a second, and milliseconds from enqueue to stored, beside other task queues, for 1 and 4 workers.

python benchmarks/queue.py [--quick] [--json FILE] [--only NAME ...] [--uvloop]    (extra: bench-queues)

Of arq, saq, streaq, rq and taskiq with taskiq-redis, those that are installed. One server for all, over loopback TCP,
emptied in between. A task gets a text of 112 bytes and returns it. For distcache that is a task of the warm-up queue
with all that belongs to it: the output is put into the cache (recency, size, history, events), and the task
acknowledged and deleted, in one script. The others store the result and acknowledge, where they can.

Every worker is a process that runs up to 16 tasks at a time (rq: one; it has no other way), in the queue's most
favourable settings, which queue_peers.py names. Peers take turns, round by round, and a figure is the median of the
rounds; `ahead` is the median of the rounds' ratios, how many times better distcache is. Both are seconds on the wall:
on a busy machine all figures are worse, and the ratios are what to look at.

- tasks a second: the workers are stopped (SIGSTOP), the tasks are queued, the workers go on (SIGCONT), and the clock
  runs until all have run and all results are in the server.
- milliseconds: one task at a time, on idle workers, from before the call that queues it until its result is in the
  server, which is asked for it ten times a millisecond. Median.
"""

from __future__ import annotations

if __name__ == "queue":
    # A script's folder comes first on the path, so that this file hides Python's own `queue` from every script here.
    import importlib.util
    import sys
    import sysconfig

    own = importlib.util.spec_from_file_location("queue", f"{sysconfig.get_path('stdlib')}/queue.py")
    if own is None or own.loader is None:
        raise ImportError("Python's own module queue was not found")
    sys.modules["queue"] = importlib.util.module_from_spec(own)
    own.loader.exec_module(sys.modules["queue"])

if __name__ == "__main__":
    from queue_rounds import main

    main(__doc__)
