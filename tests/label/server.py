"""A MONAI Label server in a process of its own, with a time limit on everything."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import requests

START_S, ANSWER_S, TRAINING_S = 150, 60, 150


class Server:
    """A process that answers over HTTP.

    Args:
        command: what to start.
        environment: variables of the process.
        folder: working directory, gets `server.log`.
        port: where it listens on 127.0.0.1.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.log = folder / "server.log"
        self.told: list[str] = []
        with self.log.open("wb") as stream:
            one_thread = {**environment, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
            self.process = subprocess.Popen(command, env=one_thread, cwd=folder, stdout=stream, stderr=stream)

    def wait(self) -> None:
        """Return when it answers."""
        limit = time.monotonic() + START_S
        while time.monotonic() < limit and self.process.poll() is None:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{self.url}/info/", timeout=ANSWER_S).ok:
                    return
            time.sleep(0.5)
        raise AssertionError(f"the server must answer within {START_S} s:\n{self.log.read_text()[-6000:]}")

    def stop(self) -> None:
        """End the process."""
        end(self.process)

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request; JSON that comes back is kept in `told`."""
        response = requests.request(method, f"{self.url}{path}", timeout=ANSWER_S, **options)
        if response.headers.get("content-type", "").startswith("application/json"):
            self.told.append(response.text)
        return response

    def infer(self, model: str, query: str = "", output: str = "json", **options: Any) -> requests.Response:
        """Run a task."""
        return self.ask("POST", f"/infer/{model}?output={output}&{query}", **options)

    def train(self, model: str, **params: Any) -> dict[str, Any]:
        """Train and wait for the end."""
        started = self.ask("POST", f"/train/{model}", json=params)
        assert started.ok, started.text
        limit = time.monotonic() + TRAINING_S
        while time.monotonic() < limit:
            task = self.ask("GET", "/train/").json()
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(1)
        raise AssertionError(f"the training must end within {TRAINING_S} s, got {task}")


@contextlib.contextmanager
def serving(command: Sequence[str], environment: dict[str, str], folder: Path, port: int) -> Iterator[Server]:
    """Start a server, wait for it, and end it whatever happens."""
    server = Server(command, environment, folder, port)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def plain_environment() -> dict[str, str]:
    """Return the environment without what a test runner adds, and without a way to the network."""
    dropped = ("PYTHONPATH", "PYTEST_CURRENT_TEST")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return {
        **{key: value for key, value in os.environ.items() if key not in dropped},
        **proxies,
        "no_proxy": "127.0.0.1",
    }


def end(process: subprocess.Popen) -> None:
    """Ask a process to end, and after 20 s make it."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
