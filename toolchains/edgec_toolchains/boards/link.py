"""A bad link: a TCP proxy in front of a board that slows what goes there, or cuts the connection after some bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

CHUNK = 8192
LATE = 0.05  # seconds that a sleep may last too long and still be made up for


class Link(threading.Thread):
    """Listens on 127.0.0.1:`port` and passes on to `target`, a port of the same machine.

    Attributes:
        port: where to connect.
        cut: after so many bytes towards the board both sides get a reset (once; then the link is whole again); None
            for never. May be set while it runs.
        sent: bytes that went towards the board since the start, or since `cut` fired.
        cuts: how often it was cut.
    """

    def __init__(self, target: int, *, cut: int | None = None, bytes_per_second: float | None = None) -> None:
        super().__init__(daemon=True)
        self.target, self.cut, self.rate = target, cut, bytes_per_second
        self.sent, self.cuts = 0, 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.start()

    def run(self) -> None:
        """Accept until it is closed."""
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:  # the board is off: so is what came for it
                    near.close()
                    continue
                for source, sink, up in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pump, args=(source, sink, up), daemon=True).start()

    def close(self) -> None:
        """Stop listening; connections that are open go on."""
        # A thread that waits in accept() keeps the socket: shutting it down wakes it.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        free = 0.0  # when what has passed until now has had its time
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if up and self._counted(len(data)):
                    for end in (source, sink):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                        # The other direction's thread waits in recv() and would keep the socket open.
                        with contextlib.suppress(OSError):
                            end.shutdown(socket.SHUT_RDWR)
                        end.close()
                    return
                if up and self.rate:
                    # By the clock, not by the piece: a sleep that lasts longer than asked would add up.
                    free = max(time.monotonic() - LATE, free) + len(data) / self.rate
                    time.sleep(max(0.0, free - time.monotonic()))
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _counted(self, size: int) -> bool:
        """Count; True where this is the place of the cut."""
        with self._lock:
            self.sent += size
            if self.cut is None or self.sent <= self.cut:
                return False
            self.cut, self.sent, self.cuts = None, 0, self.cuts + 1
            return True
