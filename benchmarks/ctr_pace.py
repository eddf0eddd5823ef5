"""Whose training step is cheaper, when both take turns on one machine?

Each contestant is a process that has made its model; for every line it is told, it trains the
same number of steps and says how many seconds of CPU they took. Told in turns, a busy moment
hits all alike.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

BATCH_SIZE = 1024
STEPS = 50  # of one turn
_MARK = "cpu_s: "


def keep_pace(train: Callable[[], object]) -> None:
    """What a contestant's process does: trains at each line read, after once to warm up.

    Writes to the standard output a line that begins with `_MARK` each time: the first once
    it is ready, then the seconds of CPU. Libraries may write what they like in between.
    """
    train()
    print(f"\n{_MARK}0", flush=True)
    for _ in sys.stdin:
        begin = time.process_time()
        train()
        print(f"\n{_MARK}{time.process_time() - begin}", flush=True)


def costs(
    commands: Mapping[str, Sequence[str]],
    turns: int,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> dict[str, list[float]]:
    """Returns the seconds of CPU of each turn, by contestant.

    Args:
        commands: of the processes, by contestant.
        turns: how often each is told to train.
        folder: where to run them.
        environment: variables beside the inherited ones.

    Raises:
        RuntimeError: if one ends before it is told to.
    """
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryFile("w+") as errors:
        processes = {
            name: subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            for name, command in commands.items()
        }

        def answer(name: str) -> float:
            for line in processes[name].stdout or ():
                if line.startswith(_MARK):
                    return float(line.removeprefix(_MARK))
            errors.seek(0)
            raise RuntimeError(f"`{name}` ended early:\n{errors.read()[-2000:]}")

        try:
            for name in processes:
                answer(name)
            for _ in range(turns):
                for name, process in processes.items():
                    if process.stdin:
                        process.stdin.write("\n")
                        process.stdin.flush()
                    seconds[name].append(answer(name))
        finally:
            for process in processes.values():
                process.communicate()
    return seconds
