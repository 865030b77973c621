"""The HTTP server of a mount's metrics: one thread that listens, and one for each scrape, in the serving process.

A scrape asks the trio loop for the values of the mount, for these objects are the loop's; and the tracking database for
those of the library, by a connection of its own, so that no stream waits for that. prometheus_client makes the text.

The mount's descriptors are its streams': more than AT_ONCE connections are refused, and an idle one is closed.
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import trio
from prometheus_client import ProcessCollector, make_wsgi_app

from vtlfs.engine import condition
from vtlfs.engine.engine import Engine
from vtlfs.errors import MountError, VtlfsError
from vtlfs.fs.options import Address
from vtlfs.fs.requests import Requests
from vtlfs.metrics import exposition, library, mount
from vtlfs.metrics.library import Space
from vtlfs.metrics.values import Values

AT_ONCE = 4  # scrapes; each has a connection, and one of them the tracking database open
IDLE_SECONDS = 5.0  # for which a connection may send nothing
ANSWER_SECONDS = 5.0  # for which a scrape waits for the trio loop

log = logging.getLogger(__name__)


class Unavailable(VtlfsError):
    """The mount can't say anything just now."""


class Endpoint:
    """The metrics of one mount at an address. Nothing but the process is there before `attach`."""

    def __init__(self, address: Address) -> None:
        """Begin to listen. Raises MountError."""
        self._ask: Callable[[], list[Values]] = list
        registry = exposition.registry(lambda: self._ask())
        ProcessCollector(registry=registry)
        self._server = _Server(address, make_wsgi_app(registry))
        self.url = f"http://{address.host_in_url}:{self._server.server_port}/metrics"
        self._thread = threading.Thread(target=self._server.serve, name="metrics", daemon=True)
        self._thread.start()

    def attach(self, engine: Engine, requests: Requests) -> None:
        """Serve the metrics of a mount. In the trio loop."""
        source = _Source(engine, requests, trio.lowlevel.current_trio_token())
        self._ask = source.values

    def close(self) -> None:
        """Listen no longer."""
        self._server.end()
        self._thread.join()
        self._server.server_close()


@contextmanager
def listening(address: Address) -> Iterator[Endpoint]:
    """Listen for the block. Raises MountError where that can't be done."""
    endpoint = Endpoint(address)
    try:
        yield endpoint
    finally:
        endpoint.close()


class _Source:
    """What a scrape asks."""

    def __init__(self, engine: Engine, requests: Requests, token: trio.lowlevel.TrioToken) -> None:
        self._engine = engine
        self._requests = requests
        self._token = token
        self._library = engine.library
        self._turn = threading.Lock()  # so that one scrape at a time has the tracking database open
        self._was_readable = True

    def values(self) -> list[Values]:
        """Return the values of the mount and of its library. In a thread of the server. Raises Unavailable."""
        of_mount, spaces = self._in_loop()
        with self._turn:
            return [of_mount, self._of_library(spaces)]

    def _in_loop(self) -> tuple[Values, list[Space]]:
        answer: Future[tuple[Values, list[Space]]] = Future()

        def look() -> None:
            try:
                answer.set_result((mount.look(self._engine, self._requests), self._spaces()))
            except Exception as error:  # raised in the thread: in the loop, it would end the mount
                answer.set_exception(error)

        try:
            self._token.run_sync_soon(look)
            return answer.result(ANSWER_SECONDS)
        except trio.RunFinishedError:
            raise Unavailable("the mount has ended") from None
        except TimeoutError:
            raise Unavailable(f"the mount has not answered for {ANSWER_SECONDS:g} seconds") from None

    def _spaces(self) -> list[Space]:
        disks = [pooled.disk for pooled in self._engine.pool.disks if pooled.disk.total]
        return [Space(disk.number, disk.free, disk.total, disk.device) for disk in disks]

    def _of_library(self, spaces: list[Space]) -> Values:
        of = self._library
        try:
            with closing(of.tracking(read_only=True)) as tracking:
                found = library.look(of, tracking, condition.examine(of, tracking), spaces)
        except (VtlfsError, OSError) as error:
            if self._was_readable:
                log.warning("metrics of the library: %s; those of the mount go on", error)
            self._was_readable = False
            return library.unreadable(of)
        self._was_readable = True
        return found


class _Handler(WSGIRequestHandler):
    """A connection. Nothing is logged of a scrape."""

    timeout = IDLE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Log nothing: anybody may ask anything."""


class _Server(ThreadingMixIn, WSGIServer):
    """A WSGI server with a bounded number of connections, which asks no name server for its own name."""

    daemon_threads = True

    def __init__(self, address: Address, app: Callable[..., Any]) -> None:
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._is_ending = False
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self.address_family = found[0][0]
            super().__init__(found[0][4], _Handler)  # type: ignore[arg-type]  # a pair; for IPv6 with two more
        except (OSError, UnicodeError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            raise MountError(f"mount option metrics={address}: can't listen there: {why}; choose another") from None
        self.set_app(_guarded(app))

    def server_bind(self) -> None:
        """Bind without looking up the own name, which may take long when a machine starts."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def serve(self) -> None:
        """Answer until `end` is called. A thread of its own runs this."""
        while not self._is_ending:
            self.handle_request()

    def end(self) -> None:
        """Have `serve` return. Any thread may call this."""
        self._is_ending = True
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Tell whether there is a place for one connection more; else it is closed."""
        return not self._is_ending and self._places.acquire(blocking=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to answer a request."""
        try:
            super().process_request(request, client_address)
        except BaseException:  # the process may have no more threads
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request, in a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a scraper has gone away, or sends no request."""
        log.debug("metrics: a connection from %s failed", client_address[0], exc_info=True)


def _guarded(app: Callable[..., Any]) -> Callable[..., Any]:
    """Have an application say in a line why it has no values."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        try:
            return app(environ, start_response)
        except Exception as error:
            known = isinstance(error, VtlfsError)
            log.log(logging.DEBUG if known else logging.ERROR, "metrics: %s", error, exc_info=not known)
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{error if known else 'unexpected; the log of the mount says why'}\n".encode()]

    return guarded
