"""A web server that gives wrong answers, byte by byte as told."""

import hashlib
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from tests.helpers.local_server import LocalServer

CONTENT = {
    "item": b'{"1": {"title": "Mug"}}',
    "index": b'{"1": ["<a_1>"]}',
    "inter": b'{"u": [1, 1, 1]}' + b" " * 100_000,
}

REGISTERED = {
    "tiny": {part: hashlib.sha256(content).hexdigest() for part, content in CONTENT.items()}
}
Answer = Callable[["Handler", bytes], object]


class Server(LocalServer):
    """Serves CONTENT as /Tiny/Tiny.<part>.json; `inter` as `answer` says, where there is one."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.answer: Answer | None = None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests want."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        part = self.path.split(".")[-2]
        if part == "inter" and self.server.answer is not None:
            self.server.answer(self, CONTENT["inter"])
        else:
            self.reply(CONTENT[part])

    def reply(self, body: bytes, status: int = 200, length: str | None = "", **fields: str) -> None:
        """A status, Content-Length (None for none, "" for the right one), fields and body."""
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", length or str(len(body)))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def raw(self, *pieces: bytes, pause: float = 0.0) -> None:
        """These bytes and nothing else; the connection is closed behind them."""
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
            time.sleep(pause)
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        pass
