"""What reaches the app, and what leaves it.

In go known routes, plain names, requests of bounded size, and none that another web page sends; no JSON that comes out
tells where the server's folders lie.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.exceptions import HTTPException

from bundle.label_app.limits import check_name
from bundle.label_app.wording import Folders
from bundle.request_errors import NotFoundError, RequestError, TooLargeError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# MONAI Label has more: weights to be overwritten, images to be replaced, a proxy, its log.
ROUTES = (
    ("GET", r"/(openapi\.json)?"),
    ("GET HEAD", r"/page/[a-z.]+"),
    ("GET", r"/info/"),
    ("GET", r"/datastore/"),
    ("GET HEAD", r"/datastore/(image|label)"),
    ("GET", r"/datastore/(image|label)/info"),
    ("PUT", r"/datastore/label"),
    ("PUT", r"/session/"),
    ("GET DELETE", r"/session/[^/]+"),
    ("POST", r"/infer/[^/]+"),
    ("POST", r"/activelearning/[^/]+"),
    ("GET DELETE", r"/train/"),
    ("POST", r"/train/[^/]+"),
    ("GET", r"/weights/"),
    ("POST", r"/weights/[^/]+"),
)
LOCAL = ("127.0.0.1", "localhost")
NAMES = ("id", "label", "tag", "session_id")
# Routes whose images may be named by a path, which is then looked for in the studies alone.
TAKE_PATHS = ("/infer/", "/page/")
# Viewers on this machine open the next study where it lies, instead of downloading it.
TELLS_PATHS = "/activelearning/"


class ForbiddenError(RequestError):
    """It comes from where nothing is taken from."""

    status = 403


class Gate:
    """ASGI application around another.

    Args:
        app: what answers.
        most_bytes: bytes of one request.
        folders: what no answer tells.
    """

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], most_bytes: int, folders: Folders
    ) -> None:
        self.app = app
        self.most_bytes = most_bytes
        self.folders = folders

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with the reason."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self.check(scope)
        except RequestError as error:
            await _refuse(send, error)
            return
        tells_paths = scope["path"].startswith(TELLS_PATHS)
        await self.app(scope, self._counted(receive), send if tells_paths else self._without_folders(send))

    def check(self, scope: Scope) -> None:
        """Look at everything but the body.

        Raises:
            RequestError: if the request is refused.
        """
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        _check_origin(headers)
        method, path = scope["method"], scope["path"]
        if not any(method in methods.split() and re.fullmatch(route, path) for methods, route in ROUTES):
            raise NotFoundError(f"{method} {path} is not offered by this server")
        by_path = path.startswith(TAKE_PATHS)
        for key, value in parse_qsl(scope["query_string"].decode("latin-1")):
            if key in NAMES or (key == "image" and not by_path):
                check_name(key, value)
        length = headers.get("content-length", "0")
        if not re.fullmatch(r"[0-9]{1,18}", length) or int(length) > self.most_bytes:
            raise self._too_large()

    def _counted(self, receive: Receive) -> Receive:
        count = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self.most_bytes:
                raise HTTPException(TooLargeError.status, str(self._too_large()))
            return message

        return counted

    def _without_folders(self, send: Send) -> Send:
        start: MutableMapping[str, Any] = {}
        parts: list[bytes] = []

        async def cleaned(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and _is_json(message):
                start.update(message)
                return
            if not start:
                await send(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = self.folders.hide(b"".join(parts).decode()).encode()
            others = [(key, value) for key, value in start["headers"] if key.lower() != b"content-length"]
            await send({**start, "headers": [*others, (b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body})

        return cleaned

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"a request must hold at most {self.most_bytes >> 20} MiB, got more; send a smaller volume, or start the"
            " server with a larger --max-upload-mb"
        )


def _check_origin(headers: MutableMapping[str, str]) -> None:
    # Any page in the browser of this machine could send requests here: under a name of its own, or across origins.
    host = _hostname(f"//{headers.get('host', '')}")
    if host not in LOCAL:
        raise ForbiddenError(f"the host must be {' or '.join(LOCAL)}, got {host!r}")
    origin = headers.get("origin")
    if origin is not None and _hostname(origin) not in LOCAL:
        raise ForbiddenError(f"requests of web pages must come from this machine, got origin {origin!r}")


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # brackets that do not close
        return None


def _is_json(message: MutableMapping[str, Any]) -> bool:
    headers = {key.lower(): value for key, value in message["headers"]}
    return headers.get(b"content-type", b"").startswith(b"application/json")


async def _refuse(send: Send, error: RequestError) -> None:
    body = json.dumps({"detail": str(error)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
