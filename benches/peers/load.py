"""The load: wrk for the cost of a request, held connections for the memory of a parked poll."""

import os
import re
import resource
import socket
import subprocess
import time

from processes import (CannotMeasure, check_alive, cpu_seconds, machine_busy_seconds,
                       rss_bytes, settled_rss_bytes)
from proxies import write

# Printed by wrk itself at the end of a run: its text is for people.
DONE_LUA = """\
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d %d\\n", summary.requests, summary.bytes,
    summary.duration, e.connect + e.read + e.write + e.timeout, e.status,
    latency:percentile(50), latency:percentile(99)))
end
"""


class Wrk:
    """One thread of wrk; `measure` returns what one round cost the proxy."""

    def __init__(self, binary, directory, cpus):
        self.binary = binary
        self.cpus = cpus
        self.script = write(os.path.join(directory, "done.lua"), DONE_LUA)

    def measure(self, process, origin, port, seconds, connections, path="/", headers=()):
        command = [self.binary, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", self.script]
        for header in headers:
            command += ["-H", header]
        command.append(f"http://127.0.0.1:{port}{path}")
        busy, others = machine_busy_seconds(), self._known_cpu(process, origin)
        user, system = cpu_seconds(process.pid)
        run = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30,
                             preexec_fn=lambda: os.sched_setaffinity(0, self.cpus))
        check_alive(process)
        user_after, system_after = cpu_seconds(process.pid)
        foreign = machine_busy_seconds() - busy - (self._known_cpu(process, origin) - others)
        result = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", run.stdout, re.M)
        if not result:
            raise CannotMeasure(f"wrk said nothing about {process.name}: {run.stderr.strip()}")
        requests, volume, micros, errors, bad, p50, p99 = map(int, result.groups())
        if errors or bad or not requests:
            raise CannotMeasure(f"{process.name}: {requests} requests, {errors} socket errors, {bad} bad statuses")
        user, system = user_after - user, system_after - system
        return {
            "requests": requests,
            "requests_per_second": requests / (micros / 1e6),
            "cpu_us_per_request": (user + system) / requests * 1e6,
            "user_us_per_request": user / requests * 1e6,
            "cpu_s_per_gib": (user + system) / volume * 2**30,
            "p50_us": p50,
            "p99_us": p99,
            "foreign_cpu": max(0.0, foreign) / (micros / 1e6),
        }

    def _known_cpu(self, process, origin):
        """CPU seconds of everything that this measurement itself runs."""
        return (sum(cpu_seconds(process.pid)) + sum(cpu_seconds(origin.pid))
                + sum(sum(resource.getrusage(who)[:2])
                      for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def measure_memory(proxies, name, origin, polls):
    """RSS of a fresh process, with `polls` parked, and after they were answered."""
    port, process = proxies.start_untouched(name, origin.port)
    held = []
    try:
        rest = settled_rss_bytes(process)
        for _ in range(polls):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            held.append(client)
            client.sendall(f"GET /poll HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        origin.wait_for_parked(polls, process)
        parked = settled_rss_bytes(process)
        origin.release()
        answered = sum(_was_answered(client) for client in held)
        if answered != polls:
            raise CannotMeasure(f"{name}: {answered} of {polls} parked polls were answered")
    finally:
        for client in held:
            client.close()
    after = settled_rss_bytes(process)
    proxies.processes.stop(process)
    return {"rest": rest, "parked": parked, "after": after, "per_poll": (parked - rest) / polls}


class ParkedOrigin:
    """The origin that holds every poll until it is told to answer: `parked_origin.py`."""

    def __init__(self, process):
        self.process = process
        deadline = time.monotonic() + 15
        while True:
            check_alive(process)
            with open(process.log) as log:
                line = log.readline()
            if line.endswith("\n"):
                self.port, self._control_port = map(int, line.split())
                return
            if time.monotonic() > deadline:
                raise CannotMeasure("the origin of the parked polls did not start")
            time.sleep(0.05)

    def wait_for_parked(self, polls, process, seconds=30):
        deadline = time.monotonic() + seconds
        while (count := int(self._ask("count"))) != polls:
            check_alive(process)
            if time.monotonic() > deadline:
                raise CannotMeasure(f"{process.name}: {count} of {polls} polls reached the origin")
            time.sleep(0.1)

    def release(self):
        self._ask("release")

    def _ask(self, command):
        with socket.create_connection(("127.0.0.1", self._control_port), timeout=30) as control:
            control.sendall(command.encode() + b"\n")
            return control.recv(64)


def _was_answered(client):
    client.settimeout(15)
    try:
        return client.recv(4096).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
