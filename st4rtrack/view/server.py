"""The viewer's web server: viser's, kept to this machine. All that goes beyond viser's public options is here.

viser 1.1 takes a WebSocket from any page the browser has open, looks for another port in silence when its port is taken, can be asked
by a page to publish itself through a relay, and takes uploads of any size. Here a request from elsewhere is refused, a taken port is
said, nothing is published, and uploads have a limit.
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

from st4rtrack.types import UserError

if TYPE_CHECKING:
    from viser import ViserServer

LARGEST_UPLOAD_BYTES = 256 * 1024 * 1024


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_allowed(origin: str | None, host: str | None, *, only_this_machine: bool) -> bool:
    """Whether a request is from a page of this server.

    Args:
        origin: the request's `Origin`: the page that asks, absent where no browser asks.
        host: the request's `Host`: the name under which this server was called, with its port.
        only_this_machine: the server listens on a loopback address, so it is called by a name of that (an `ssh -L` included). Another
            name means that a foreign page had its own name resolved to this machine.
    """
    if only_this_machine and not is_loopback(urlsplit(f"//{host or ''}").hostname or ""):
        return False
    return origin is None or urlsplit(origin).netloc == host


def start_server(host: str, port: int, *, title: str) -> "ViserServer":
    """Starts viser's server.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        title: of the panel.
    Raises:
        UserError: viser is not installed, the address is not of this machine, or the port is taken.
    """
    check_can_serve(host, port)
    import viser

    class LocalServer(viser.ViserServer):
        def request_share_url(self, verbose: bool = True) -> str | None:
            """Nothing is published: a page may ask for it, but only the user of this machine decides."""
            return None

    with contextlib.redirect_stdout(io.StringIO()), _guarded(only_this_machine=is_loopback(host)) as guarded:
        server = LocalServer(host, port, label=title, verbose=False)
    if port and server.get_port() != port:  # somebody took it meanwhile, and viser went on to another
        stop_server(server)
        raise UserError(_taken(port))
    if not guarded:
        stop_server(server)
        raise RuntimeError(
            "this version of viser starts its web server in another way, so requests from elsewhere cannot be refused"
        )
    return server


def stop_server(server: "ViserServer") -> None:
    """Ends the server and its threads, without viser's own words."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def limit_uploads(server: "ViserServer", largest_bytes: int, refused: Callable[[str], None]) -> None:
    """Drops uploads beyond a size, by what they announce and by what really comes; what came of them is forgotten.

    Args:
        server: the server.
        largest_bytes: of one file.
        refused: called with the file's name.
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
    """What is printed: the address for a browser, and how to get there from another machine."""
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
        lines.append("anyone who reaches this machine can look; uploading videos is off")
    return "\n".join(lines)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "USER"


@contextlib.contextmanager
def _guarded(*, only_this_machine: bool) -> Iterator[list[bool]]:
    """While viser starts: its web server asks `is_allowed` first. Gives a list that is not empty once that happened."""
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
    """Finds out what would keep a server from starting, before anything is loaded for it.

    Raises:
        UserError: viser is not installed, the address is not of this machine, or the port is taken.
    """
    if importlib.util.find_spec("viser") is None:
        raise UserError('the viewer needs viser; install it with: pip install "st4rtrack[view]"')
    if not 0 <= port <= 65535:
        raise UserError(f"--port must be from 0 to 65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host} with --port {port} is no address: {error}") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a port just left is free
        try:
            probe.bind(address)
            probe.listen(1)
        except PermissionError as error:
            raise UserError(f"port {port} is reserved; choose one above 1023 with --port") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UserError(_taken(port)) from error
            raise UserError(
                f"this machine cannot listen on {host}: {error.strerror}; --host takes an address of its own"
            ) from error


def _taken(port: int) -> str:
    return f"port {port} is taken, perhaps by another viewer; choose another with --port, or --port 0 for any free one"
