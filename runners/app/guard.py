"""Protection around gradio: requests that the page's server refuses, proxies on the way to itself, busy ports."""

import json
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from utils.errors import UserError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_JSON = 2**20  # bytes; images come as uploads, not as JSON


class NoAddresses:
    """ASGI middleware: requests that make the server fetch an internet address are refused.

    gradio would download a file that is named by its URL, and pass on other servers' answers.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if "/proxy=" in path or "://" in path:
            await _refuse(send, 403)
            return
        if scope["method"] == "POST" and not dict(scope["headers"]).get(b"content-type", b"").startswith(b"multipart/"):
            body, message = b"", await receive()
            while message["type"] == "http.request":
                body += message.get("body", b"")
                if len(body) > MAX_JSON:
                    await _refuse(send, 413)
                    return
                if not message.get("more_body"):
                    break
                message = await receive()
            if _names_address(_parsed(body)):
                await _refuse(send, 403)
                return
            receive = _again(body, receive)
        await self.app(scope, receive, send)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body that has been read, then later messages."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def first_body() -> Message:
        return waiting.pop() if waiting else await receive()

    return first_body


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _names_address(value: Any) -> bool:
    """Whether any file in the value is named by an address instead of a path."""
    if isinstance(value, dict):
        path = value.get("path")
        return (isinstance(path, str) and "://" in path) or any(map(_names_address, value.values()))
    return isinstance(value, list) and any(map(_names_address, value))


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"refused"})


def without_proxies(share: bool) -> None:
    """Keep the environment's proxies from being used between gradio and its own page; with `share`, only for localhost.

    Call it before gradio is imported, which reads them.
    """
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        for spelling in (name, name.upper()):
            if not share:
                os.environ.pop(spelling, None)
    for spelling in ("no_proxy", "NO_PROXY"):
        os.environ[spelling] = ",".join(filter(None, (os.environ.get(spelling), "127.0.0.1", "localhost")))


def check_port(port: int) -> None:
    """Raises UserError if the page could not be served on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gradio does: a server that just ended is fine
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(f"--port {port}: cannot be used ({error.strerror}); choose another") from None
