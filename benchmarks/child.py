"""A module of the benchmarks as a process of its own, told and heard line by line."""

import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]


class Child:
    """Runs `python -m benchmarks.<module> <arguments>` until it is closed.

    So that a client's work is not the measured process's, nor this one's.

    Args:
        module: of the benchmarks; it reads lines until there are no more.
        arguments: of its command line.
    """

    def __init__(self, module: str, *arguments: object) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, *words: object) -> None:
        """Writes a line for it to read."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Returns the next line that it writes.

        Raises:
            RuntimeError: if it ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended; what it said stands above")
        return line

    def close(self) -> None:
        """Leaves it nothing to read, and waits for its end."""
        self._process.communicate(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
