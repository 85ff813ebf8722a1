"""The page's server."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from margipose.view.app import make_app
from margipose.view.examples import Examples

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

__all__ = ["LOOPBACK", "serve"]

LOOPBACK = "127.0.0.1"


def serve(examples: Examples, host: str = LOOPBACK, port: int = 8050) -> BaseWSGIServer:
    """A server for the page, bound to its address; `serve_forever()` runs it.

    Args:
        host: an address of this machine. On another one than the loopback's, everyone who can reach the
            machine sees the data set.
        port: 0 for any that is free; the server's `port` says which.

    Raises:
        ImportError: without Dash.
        OSError: if the address cannot be had.
    """
    app = make_app(examples)
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: Any) -> None:
            """Say nothing: a page asks all the time."""

    allowed = {host, "localhost", LOOPBACK, "::1"} if host in (LOOPBACK, "localhost", "::1") else None

    @app.server.before_request
    def only_by_name() -> tuple[str, int] | None:
        """Other sites cannot point a name of theirs at this machine and read the page through it."""
        from flask import request

        name = request.host.rsplit(":", 1)[0].strip("[]") if request.host else ""
        if allowed is not None and name not in allowed:
            return "This page answers to localhost only.", 403
        return None

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(
            f"{host}:{port}: the page cannot be served there ({error.strerror or error})"
        ) from error
    with bound:  # the server has a copy
        return make_server(host, port, app.server, threaded=True, request_handler=Quiet, fd=bound.fileno())
