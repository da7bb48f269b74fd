"""A bad network between an RTSP client and a real server: it loses UDP packets, all of them if asked to.

It stands between the two as a server of its own: requests go through it, the ports of the media are changed for its
own, and of the packets that arrive there a share is passed on.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
from collections.abc import Iterator

from tests.support.rtsp import free_port

_CLIENT_PORTS = re.compile(rb"client_port=(\d+)-(\d+)")


class LossyRelay:
    """Listens at `port` and forwards to the server at `server_port`; loses `loss` (0..1) of the media packets."""

    def __init__(self, server_port: int, loss: float) -> None:
        self.port = free_port()
        self.lost = self.passed = 0
        self._server_port, self._loss = server_port, loss
        self._chance = random.Random(0)
        self._sockets: list[socket.socket] = []
        self._listener = self._kept(socket.create_server(("127.0.0.1", self.port)))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _kept(self, new: socket.socket) -> socket.socket:
        self._sockets.append(new)
        return new

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._kept(self._listener.accept()[0])
                server = self._kept(socket.create_connection(("127.0.0.1", self._server_port)))
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._replies, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                found = _CLIENT_PORTS.search(data)
                if found is not None:
                    ports = [self._media(int(port)) for port in found.groups()]
                    data = data.replace(found[0], b"client_port=%d-%d" % (ports[0], ports[1]))
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _replies(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def _media(self, port: int) -> int:
        """A new UDP port whose packets go on to `port`, as far as they are not lost."""
        inlet = self._kept(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        inlet.bind(("127.0.0.1", 0))

        def forward() -> None:
            with contextlib.suppress(OSError):
                while data := inlet.recv(65536):
                    if self._chance.random() < self._loss:
                        self.lost += 1
                        continue
                    self.passed += 1
                    inlet.sendto(data, ("127.0.0.1", port))

        threading.Thread(target=forward, daemon=True).start()
        return int(inlet.getsockname()[1])


@contextlib.contextmanager
def lossy_relay(server_port: int, loss: float) -> Iterator[LossyRelay]:
    """A relay for the length of a block."""
    relay = LossyRelay(server_port, loss)
    try:
        yield relay
    finally:
        relay.close()
