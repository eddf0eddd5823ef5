"""A real redis-server for tests: the one on PATH, or Debian's, unpacked without root."""

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis

_PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_BINARY = "usr/bin/redis-server"
_START_S = 20.0


class NoRedisError(Exception):
    """There is no redis-server, and why."""


class RedisServer:
    """A redis-server of our own on a free port; nothing of it is on disk.

    Raises:
        NoRedisError: if there is none to start.
    """

    def __init__(self, folder: Path):
        self._command, self._environment = _binary()
        self._folder = folder
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port)
        self.start()

    def start(self) -> None:
        """Starts it, empty; returns once it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [self._command, *options, "--dir", str(self._folder)],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(redis.ConnectionError):
                self.client.ping()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise NoRedisError(f"{self._command} does not start")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kills it; what it held is gone."""
        self._process.kill()
        self._process.wait()


def _binary() -> tuple[str, dict[str, str]]:
    """Returns the command and the environment that it needs."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path, dict(os.environ)
    cache = Path(tempfile.gettempdir()) / f"tandem-redis-{os.getuid()}"
    cache.mkdir(exist_ok=True, mode=0o700)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of the test run
        if not (cache / "root" / _BINARY).exists():
            _unpack(cache)
    libraries = str(cache / "root" / _LIBRARIES)
    return str(cache / "root" / _BINARY), {**os.environ, "LD_LIBRARY_PATH": libraries}


def _unpack(cache: Path) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise NoRedisError("needs redis-server on PATH, or Debian's apt-get and dpkg")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        try:
            subprocess.run(
                ["apt-get", "download", *_PACKAGES],
                cwd=folder,
                check=True,
                capture_output=True,
                timeout=120,
            )
            for package in Path(folder).glob("*.deb"):
                unpacked = ["dpkg", "-x", str(package), f"{folder}/root"]
                subprocess.run(unpacked, check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            raise NoRedisError(f"Debian's redis-server: {error}") from error
        os.rename(f"{folder}/root", cache / "root")
