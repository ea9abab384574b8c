"""Web server of the viewer: viser's, restricted to this machine. Everything beyond viser's public API is in this module.

viser 1.1 accepts a WebSocket from any page open in the browser, silently switches to another port if its port is taken, can be
asked by a page to publish itself through a relay, and accepts uploads of any size. Here, requests from other origins are
refused, a taken port is an error, nothing is published, and uploads have a size limit.
"""

import contextlib
import errno
import functools
import getpass
import importlib.util
import io
import ipaddress
import socket
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from st4rtrack.io.installation import install_extra
from st4rtrack.types import UserError

if TYPE_CHECKING:
    from viser import ViserServer

LARGEST_UPLOAD_BYTES = 256 * 1024 * 1024


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address, reachable only from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_allowed(origin: str | None, host: str | None, *, only_this_machine: bool) -> bool:
    """Whether a request comes from a page of this server."""
    if only_this_machine and not is_loopback(urlsplit(f"//{host or ''}").hostname or ""):
        return False
    return origin is None or urlsplit(origin).netloc == host


def start_server(host: str, port: int, *, title: str) -> "ViserServer":
    """Start viser's server.

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        title: title of the panel.
    Raises:
        UserError: viser is not installed, the address does not belong to this machine, or the port is taken.
    """
    check_can_serve(host, port)
    import viser

    class LocalServer(viser.ViserServer):
        def request_share_url(self, verbose: bool = True) -> str | None:
            """Refuse to publish: a page may ask for it, but only the user of this machine decides."""
            return None

    with contextlib.redirect_stdout(io.StringIO()), _guarded(only_this_machine=is_loopback(host)) as guarded:
        server = LocalServer(host, port, label=title, verbose=False)
    if port and server.get_port() != port:  # taken meanwhile, and viser switched to another
        stop_server(server)
        raise UserError(_taken(port))
    if not guarded:
        stop_server(server)
        raise RuntimeError("unsupported version of viser: requests from other origins could not be refused")
    return server


def stop_server(server: "ViserServer") -> None:
    """Stop the server and its threads, without viser's messages."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def limit_uploads(server: "ViserServer", largest_bytes: int, refused: Callable[[str], None]) -> None:
    """Drop uploads above a size limit, by announced and by received size, and delete what was received.

    Args:
        server: the server.
        largest_bytes: maximum size of a file.
        refused: called with the name of a refused file.
    """
    from viser._messages import FileTransferPart, FileTransferStartUpload

    arriving = server.gui._current_file_upload_states

    def check(_client_id: int, message: Any) -> None:
        state = arriving.get(message.transfer_uuid)
        if state is not None and max(state["total_bytes"], state["transferred_bytes"]) > largest_bytes:
            arriving.pop(message.transfer_uuid, None)
            refused(str(state["filename"]))

    for kind in (FileTransferStartUpload, FileTransferPart):
        server._websock_server.register_handler(kind, check)


def where_to_look(host: str, port: int) -> str:
    """Text to print: the address for a browser, and how to reach it from another machine."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host
    url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    lines = [f"open {url} in a browser; Ctrl+C ends"]
    if is_loopback(host):
        inner = f"[{host}]" if ":" in host else host
        lines += [
            "from another machine, run this there first, then open the same address:",
            f"  ssh -L {port}:{inner}:{port} {_user()}@{socket.gethostname()}",
        ]
    else:
        lines.append("anyone who can reach this machine can view the scenes; uploads are off")
    return "\n".join(lines)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "USER"


@contextlib.contextmanager
def _guarded(*, only_this_machine: bool) -> Iterator[list[bool]]:
    """Make viser's web server check `is_allowed` first while it starts. Yields a list that is non-empty once this is done."""
    import websockets.asyncio.server as websocket_server

    serve, applied = websocket_server.serve, []

    @functools.wraps(serve)
    def guarded_serve(*arguments: Any, process_request: Any = None, **options: Any) -> Any:
        def checked(connection: Any, request: Any) -> Any:
            headers = request.headers
            if not is_allowed(headers.get("Origin"), headers.get("Host"), only_this_machine=only_this_machine):
                return connection.respond(HTTPStatus.FORBIDDEN, "this viewer answers only its own page\n")
            return process_request(connection, request) if process_request else None

        applied.append(True)
        return serve(*arguments, process_request=checked, **options)

    websocket_server.serve = guarded_serve  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield applied
    finally:
        websocket_server.serve = serve


def check_can_serve(host: str, port: int) -> None:
    """Check whether a server could start, before anything is loaded for it.

    Raises:
        UserError: viser is not installed, the address does not belong to this machine, or the port is taken.
    """
    if importlib.util.find_spec("viser") is None:
        raise UserError(f"the viewer needs viser; install it with: {install_extra('view')}")
    if not 0 <= port <= 65535:
        raise UserError(f"--port must be from 0 to 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host} with --port {port} is not a valid address: {error}") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a recently closed port is free
        try:
            probe.bind(address)
            probe.listen(1)
        except PermissionError as error:
            raise UserError(f"port {port} is reserved; choose one above 1023 with --port") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UserError(_taken(port)) from error
            raise UserError(
                f"this machine cannot listen on {host}: {error.strerror}; pass one of its addresses to --host"
            ) from error


def _taken(port: int) -> str:
    return f"port {port} is taken, perhaps by another viewer; choose another with --port, or --port 0 for any free one"
