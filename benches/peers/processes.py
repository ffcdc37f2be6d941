"""Processes: starting and ending them, and what /proc says about their CPU time and memory."""

import ctypes
import os
import signal
import socket
import subprocess
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1


class CannotMeasure(Exception):
    """Something that a figure needs did not happen: the text says what."""


class Processes:
    """Every process that was started here ends here, even when the harness is killed."""

    def __init__(self, directory):
        self.directory = directory
        self._started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._started[::-1]:
            self.stop(process)

    def start(self, name, command, cpus, env=None):
        def in_child():
            # A session of its own, so that its children can be ended with it.
            os.setsid()
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.sched_setaffinity(0, cpus)

        log = os.path.join(self.directory, f"{name}.log")
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=env, preexec_fn=in_child,
            )
        process.name, process.log = name, log
        self._started.append(process)
        return process

    def stop(self, process):
        """SIGKILL to the process group that `start` made: nothing here deserves a drain."""
        if process in self._started:
            self._started.remove(process)
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def check_alive(process):
    if process.poll() is not None:
        with open(process.log, errors="replace") as log:
            tail = " | ".join(log.read().strip().splitlines()[-5:]) or "no output"
        raise CannotMeasure(f"{process.name} ended with status {process.returncode}: {tail}")


def tree(pid):
    """`pid` and its descendants: a proxy's workers count as the proxy."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(_stat(int(entry))[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = [pid]
    for candidate in found:
        found += [child for child, parent in parents.items() if parent == candidate]
    return found


def cpu_seconds(pid):
    """(user, system) of the process, its threads, its living and its reaped children."""
    user = system = 0
    for member in tree(pid):
        stat = _stat(member)
        # utime, stime, cutime, cstime; the children's fields hold the reaped ones only.
        user += int(stat[11]) + int(stat[13])
        system += int(stat[12]) + int(stat[14])
    return user / TICKS_PER_SECOND, system / TICKS_PER_SECOND


def rss_bytes(pid):
    """VmRSS, summed over the process and its descendants."""
    total = 0
    for member in tree(pid):
        with open(f"/proc/{member}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
    return total


def settled_rss_bytes(process, at_least=2.5, still=1.5, at_most=20.0):
    """RSS once it has stood still for `still` seconds: allocators give pages back late."""
    begin = since = time.monotonic()
    last = rss_bytes(process.pid)
    while time.monotonic() - begin < at_most:
        time.sleep(0.1)
        check_alive(process)
        now = rss_bytes(process.pid)
        if abs(now - last) > 64 * 1024:
            last, since = now, time.monotonic()
        elif time.monotonic() - since >= still and time.monotonic() - begin >= at_least:
            return now
    raise CannotMeasure(f"{process.name}: RSS did not settle within {at_most:.0f} s")


def machine_busy_seconds():
    """CPU seconds that all CPUs of the machine have worked, whoever for."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _stat(pid):
    """Fields of /proc/PID/stat after the name, which may hold blanks: [0] is the state."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()
