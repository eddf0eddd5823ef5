"""What a command costs: time of all its processes' CPUs, and their memory. Linux only."""

import dataclasses
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_SECONDS = 0.1
_SHOWN_LINES = 30


@dataclasses.dataclass
class Process:
    """One process of a command, as last seen."""

    command: str
    cpu_seconds: float  # its own, without its children's
    peak_bytes: int  # of resident memory


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one run of a command took.

    Attributes:
        wall_seconds: from start to end.
        cpu_seconds: user and system time of the command and all that it started.
        peak_bytes: the most resident memory of all of them at one moment; memory that
            they share counts for each. Sampled ten times a second.
        processes: those that lived long enough to be sampled.
        output: what it wrote to its standard output.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    processes: list[Process]
    output: str

    @property
    def largest_process_bytes(self) -> int:
        return max((process.peak_bytes for process in self.processes), default=0)


def run_measured(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Cost:
    """Runs a command to its end.

    Args:
        command: program and arguments.
        folder: where to run it.
        environment: variables beside the inherited ones.

    Raises:
        RuntimeError: if it fails; with the end of what it wrote.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        watch = _Watch(process.pid)
        watch.start()
        # Of the process and of those descendants that somebody waited for.
        _, status, usage = os.wait4(process.pid, 0)
        wall_seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.stop()
        output, errors = (_text(handle) for handle in (out, err))
    if process.returncode != 0:
        tail = "\n".join((output + errors).splitlines()[-_SHOWN_LINES:])
        raise RuntimeError(
            f"`{' '.join(command)}` ended with code {process.returncode}:\n{tail}"
        )
    reaped = usage.ru_utime + usage.ru_stime
    sampled = sum(seen.cpu_seconds for seen in watch.seen.values())
    return Cost(
        wall_seconds,
        max(reaped, sampled),  # a child that nobody waited for is in the second only
        # Not `ru_maxrss`, which begins with what this process had when it forked.
        max([watch.peak_bytes, *(seen.peak_bytes for seen in watch.seen.values())]),
        list(watch.seen.values()),
        output,
    )


def cpu_seconds_of(pid: int) -> float:
    """Returns the user and system time of a running process so far.

    Raises:
        ProcessLookupError: if there is no such process.
    """
    stat = _stat(pid)
    if stat is None:
        raise ProcessLookupError(f"there is no process {pid}")
    return stat[1] / _TICKS


def compiled_into(folder: Path) -> dict[str, str]:
    """Returns variables under which Python keeps its bytecode in a folder of its own.

    Whoever once ran under them finds all modules compiled, wherever those lie and
    whatever the caller's environment says about writing bytecode.
    """
    return {"PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}


class _Watch(threading.Thread):
    """Looks at a process and its descendants until told to stop."""

    def __init__(self, root: int):
        super().__init__(daemon=True)
        self._root = root
        self._done = threading.Event()
        self.seen: dict[tuple[int, int], Process] = {}  # by pid and time of start
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._done.is_set():
            self._look()
            self._done.wait(_SAMPLE_SECONDS)

    def stop(self) -> None:
        self._done.set()
        self.join()

    def _look(self) -> None:
        stats = {}
        for name in os.listdir("/proc"):
            if name.isdecimal() and (stat := _stat(int(name))):
                stats[int(name)] = stat
        resident = 0
        for pid in _family(self._root, {pid: stat[0] for pid, stat in stats.items()}):
            _, ticks, started, pages = stats[pid]
            resident += pages * _PAGE
            key = (pid, started)
            if key not in self.seen:
                self.seen[key] = Process(_command(pid), 0.0, 0)
            process = self.seen[key]
            process.cpu_seconds = ticks / _TICKS
            process.peak_bytes = max(process.peak_bytes, _high_water(pid))
        self.peak_bytes = max(self.peak_bytes, resident)


def _family(root: int, parents: Mapping[int, int]) -> list[int]:
    """Returns `root`, if it is there, and all that descend from it."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found = [root] if root in parents else []
    for pid in found:  # grows meanwhile
        found.extend(children.get(pid, []))
    return found


def _stat(pid: int) -> tuple[int, int, int, int] | None:
    """Returns (parent, ticks of CPU, time of start, resident pages)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name stands in brackets and may hold spaces and brackets.
    fields = text.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return int(fields[1]), ticks, int(fields[19]), int(fields[21])


def _high_water(pid: int) -> int:
    """Returns the most resident memory so far, in bytes; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _text(handle) -> str:
    handle.seek(0)
    return handle.read().decode("utf-8", "replace")
