"""The viewer's server: who may ask, taken ports, uploads, the command."""

import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from st4rtrack.cli.main import main
from st4rtrack.io.scene import SceneHeader, SceneWriter, save_scene
from st4rtrack.types import UserError
from st4rtrack.view.server import is_allowed, is_loopback, where_to_look
from tests.conftest import Run
from tests.synthetic_scene import synthetic_scene

pytest.importorskip("viser", reason="viser is not installed")

from st4rtrack.view.server import limit_uploads, start_server, stop_server
from st4rtrack.view.upload import Uploads, remaining
from st4rtrack.view.viewer import Viewer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:websockets")


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    viewer = Viewer({"scene": synthetic_scene(4, 12, 16)}, port=0)
    yield viewer
    viewer.stop()


@pytest.mark.parametrize(
    ("origin", "host", "local", "allowed"),
    [
        (None, "127.0.0.1:8080", True, True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True, True),
        ("http://localhost:9000", "localhost:9000", True, True),  # ssh -L 9000:...
        ("http://[::1]:8080", "[::1]:8080", True, True),
        ("https://evil.example", "127.0.0.1:8080", True, False),
        ("http://localhost:3000", "localhost:8080", True, False),  # another program's page
        ("http://evil.example:8080", "evil.example:8080", True, False),  # a name that resolves to this machine
        ("null", "127.0.0.1:8080", True, False),
        (None, None, True, False),
        ("http://box.lan:8080", "box.lan:8080", False, True),
        ("http://evil.example", "box.lan:8080", False, False),
    ],
)
def test_who_may_ask(origin: str | None, host: str | None, local: bool, allowed: bool) -> None:
    assert is_allowed(origin, host, only_this_machine=local) is allowed


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("box.lan", False)]
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_the_server_answers_its_own_page_only(viewer: Viewer) -> None:
    def status(**headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=10)
        connection.request("GET", "/", headers=headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    socket_headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "viser-v0",
    }
    assert status() == 200
    assert status(Origin="http://evil.example") == 403
    assert status(Host="evil.example") == 403
    assert status(**socket_headers, Origin="http://evil.example") == 403


@pytest.mark.parametrize(
    "path", ["/../../../etc/passwd", "//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "/..\\..\\etc\\passwd"]
)
def test_files_of_others_are_not_served(viewer: Viewer, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 404 and b"root:" not in answer.read()
    connection.close()


def test_nothing_is_written_where_the_user_is_nor_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    viewer = Viewer({"scene": synthetic_scene(3, 8, 10)}, port=0)
    draw(viewer)
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=10)
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()
    viewer.stop()
    assert not list(tmp_path.rglob("*"))


def test_the_own_page_gets_a_websocket_and_others_none(viewer: Viewer) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    address = f"ws://127.0.0.1:{viewer.port}"
    with connect(address, origin=f"http://127.0.0.1:{viewer.port}", subprotocols=["viser-v1"]):  # pyright: ignore[reportArgumentType]
        pass
    with pytest.raises(InvalidStatus, match="403"), connect(address, origin="http://evil.example"):  # pyright: ignore[reportArgumentType]
        pass


def test_nothing_is_published(viewer: Viewer) -> None:
    assert viewer.server.request_share_url() is None


def test_it_listens_on_this_machine_only(viewer: Viewer) -> None:
    assert viewer.server.get_host() == "127.0.0.1"


def test_a_taken_port_is_said() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken.*--port"):
            start_server("127.0.0.1", port, title="x")


@pytest.mark.parametrize(("host", "port"), [("no such host", 0), ("192.0.2.7", 0), ("127.0.0.1", 99999)])
def test_an_address_that_is_none(host: str, port: int) -> None:
    with pytest.raises(UserError, match=r"--(host|port)"):
        start_server(host, port, title="x")


def test_without_viser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"\[view\]"):
        start_server("127.0.0.1", 0, title="x")


def test_where_to_look() -> None:
    assert "http://127.0.0.1:8080" in where_to_look("127.0.0.1", 8080)
    assert "ssh -L 8080:127.0.0.1:8080 " in where_to_look("127.0.0.1", 8080)
    assert "http://[::1]:80" in where_to_look("::1", 80)
    public = where_to_look("0.0.0.0", 8080)
    assert "ssh" not in public and "anyone" in public


def test_uploads_beyond_the_limit_are_dropped_by_what_they_say_and_by_what_comes() -> None:
    from viser._messages import FileTransferPart, FileTransferStartUpload

    server = start_server("127.0.0.1", 0, title="x")
    refused: list[str] = []
    try:
        button = server.gui.add_upload_button("up")
        limit_uploads(server, 1000, refused.append)
        handlers = server._websock_server._incoming_handlers

        def send(message: FileTransferStartUpload | FileTransferPart) -> None:
            for handler in handlers[type(message)]:
                handler(0, message)  # pyright: ignore[reportArgumentType]

        def start(name: str, size: int) -> FileTransferStartUpload:
            return FileTransferStartUpload(
                source_component_uuid=button._impl.uuid,
                transfer_uuid=name,
                filename=name,
                mime_type="video/mp4",
                part_count=3,
                size_bytes=size,
            )

        arriving = server.gui._current_file_upload_states
        send(start("large", 1001))
        assert refused == ["large"] and not arriving
        send(start("liar", 10))
        assert set(arriving) == {"liar"}
        for index in range(2):
            part = FileTransferPart(
                source_component_uuid=button._impl.uuid, transfer_uuid="liar", part_index=index, content=bytes(600)
            )
            send(part)
        assert refused == ["large", "liar"] and not arriving
    finally:
        stop_server(server)


class TestUploads:
    @pytest.fixture
    def uploads(self, viewer: Viewer, tmp_path: Path) -> Iterator[tuple[Uploads, list[dict]]]:
        finished: list[dict] = []
        uploads = Uploads(viewer.server, tmp_path, finished.append, model=None)
        uploads.add_controls()
        yield uploads, finished

    def test_a_video_becomes_a_scene(
        self, uploads: tuple[Uploads, list[dict]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = synthetic_scene()
        seen: list[bytes] = []

        def reconstruct(video: Path, folder: Path, *, model: str | None, progress: object) -> object:
            assert video.parent == folder and folder.parent == tmp_path
            seen.append(video.read_bytes())
            progress(1, 2)  # pyright: ignore[reportCallIssue]
            assert uploads[0]._bar.value == 50
            return made

        monkeypatch.setattr("st4rtrack.view.upload.reconstruct_to_scene", reconstruct)
        uploads[0].bring("../../cat.MP4", b"frames")
        assert seen == [b"frames"] and uploads[1] == [{"cat": made}]
        assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["video.mp4"]

    def test_what_is_no_video_is_refused_in_the_page(self, uploads: tuple[Uploads, list[dict]], tmp_path: Path) -> None:
        uploads[0].bring("weights.npz", b"x")
        assert ".mp4" in uploads[0]._words.content and not list(tmp_path.iterdir()) and not uploads[1]

    def test_a_broken_video_is_said_without_our_paths(self, uploads: tuple[Uploads, list[dict]], tmp_path: Path) -> None:
        uploads[0].bring("cat.mp4", b"no video at all")
        assert uploads[0]._words.content and str(tmp_path) not in uploads[0]._words.content
        assert not uploads[0]._bar.visible and not uploads[1]

    def test_cancel(self, uploads: tuple[Uploads, list[dict]], monkeypatch: pytest.MonkeyPatch) -> None:
        def reconstruct(video: Path, folder: Path, *, model: str | None, progress: object) -> object:
            uploads[0].cancel()
            progress(1, 2)  # pyright: ignore[reportCallIssue]
            raise AssertionError("went on")

        monkeypatch.setattr("st4rtrack.view.upload.reconstruct_to_scene", reconstruct)
        uploads[0].bring("cat.mp4", b"frames")
        assert uploads[0]._words.content == "Cancelled."

    def test_the_time_left(self) -> None:
        assert remaining(10, 40, 20.0) == "10 of 40 frames, 60 s left"
        assert remaining(1, 101, 6.0) == "1 of 101 frames, 10 min left"


def draw(viewer: Viewer) -> None:
    """The present moment, without waiting for the thread that draws."""
    with viewer._drawing:
        viewer._drawn = None
        viewer._draw(time.monotonic())


def test_clicks_layers_and_other_scenes_without_a_browser(viewer: Viewer) -> None:
    scene = viewer.state.scenes[0].scene
    anchor = scene.anchor_index
    viewer.state.play(False)
    viewer.state.seek(anchor)
    viewer.state.set(least_sure=0.0, cameras=False, reconstruction=True, accumulated=True)
    point = scene.tracking.points_world[anchor, 4, 5].astype(float)
    eye = 50 * point
    viewer._clicked(SimpleNamespace(ray_origin=tuple(eye), ray_direction=tuple(-eye)))  # pyright: ignore[reportArgumentType]
    assert len(viewer.state.paths[0]) == 1
    draw(viewer)
    assert viewer._panel._table.visible
    viewer.state.clear_paths()
    viewer.show({"a": synthetic_scene(3, 8, 10), "b": synthetic_scene(5, 8, 10, seed=1)}, playing=False)
    draw(viewer)
    assert [stage.placement.offset[0] > 0 for stage in viewer._stages] == [False, True]
    viewer.show({"scene": scene}, playing=False)


class TestCommand:
    def test_no_such_scene(self, run: Run) -> None:
        assert run("view", "nowhere", "--port", 0) == (
            2,
            "st4rtrack: there is no scene at nowhere; give the folder that st4rtrack run wrote\n",
        )

    def test_nothing_named(self, run: Run) -> None:
        code, text = run("view")
        assert code == 2 and "st4rtrack view SCENE" in text

    def test_a_folder_that_is_no_scene(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        code, text = run("view", tmp_path / "empty", "--port", 0)
        assert code == 2 and "is not a scene" in text

    def test_a_scene_half_written(self, run: Run, tmp_path: Path) -> None:
        scene = synthetic_scene()
        header = SceneHeader(
            num_frames=4,
            height=6,
            width=8,
            anchor_index=0,
            pixel_map=scene.pixel_map,
            source_size=scene.source_size,
            info={},
            points_dtype="float32",
        )
        SceneWriter.create(tmp_path / "half", header)
        code, text = run("view", tmp_path / "half", "--port", 0)
        assert code == 2 and "incomplete (0 of 4 frames)" in text

    def test_a_taken_port_is_found_before_anything_is_read(self, run: Run, viewer: Viewer) -> None:
        code, text = run("view", "nowhere", "--port", viewer.port)
        assert code == 2 and "is taken" in text

    def test_view_reconstruction_interrupted_names_the_command_that_resumes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def stopped(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("st4rtrack.view.upload.reconstruct_to_scene", stopped)
        (tmp_path / "cat.mp4").touch()
        with pytest.raises(SystemExit) as ended:
            main(["view", str(tmp_path / "cat.mp4"), "--port", "0"])
        assert ended.value.code == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert "view does not store the reconstruction" in last and "st4rtrack run VIDEO" in last and "same command" not in last

    def test_two_scenes_are_opened_under_their_names(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("before/cat", "after/cat"):
            save_scene(synthetic_scene(), tmp_path / name)
        opened: list[str] = []

        def wait(viewer: Viewer) -> None:
            opened.extend(layers.name for layers in viewer.state.scenes)
            viewer.stop()

        monkeypatch.setattr(Viewer, "wait", wait)
        code, text = run("view", tmp_path / "before/cat", tmp_path / "after/cat/scene.json", "--port", 0)
        assert code == 0 and opened == ["before/cat", "after/cat"]
        assert "http://127.0.0.1:" in text and "ssh -L" in text
