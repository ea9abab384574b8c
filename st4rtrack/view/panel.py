"""Control panel of the viewer: changes the state and displays it; stores nothing itself."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from st4rtrack.view.layers import Settings
from st4rtrack.view.sampling import Budget, decimation
from st4rtrack.view.stage import PICKED_COLOURS, marked_picture
from st4rtrack.view.state import ALL, ViewState, path_table

if TYPE_CHECKING:
    from viser import ViserServer

LAYERS = {
    "tracking": ("Tracking points", "Points of the anchor frame at the time of this frame."),
    "reconstruction": ("Reconstruction points", "Points of this frame."),
    "accumulated": ("Accumulated reconstruction", "Points of all frames so far."),
    "moving_only": ("Dynamic points only", "Hide static tracking points and tracks."),
    "tracks": ("Tracks with tails", "Paths of the anchor's points, coloured by their position in the anchor."),
    "cameras": (
        "Cameras",
        "Camera path from first (pink) to last (yellow); cameras of this frame and of the anchor with their pictures.",
    ),
}
SLIDERS = {
    "least_sure": ("Hide least confident", 0.0, 0.95, 0.05, "Share of points to hide, those with the lowest confidence."),
    "point_size": ("Point size", 0.2, 4.0, 0.1, "Factor on the size at which neighbouring points touch."),
    "points": ("Points", 1000, 60_000, 1000, "Number of points per frame. Fewer are smoother on a slow connection."),
    "num_tracks": ("Tracks", 20, 2000, 20, "Number of points with a tail."),
    "tail": ("Tail length", 1, 64, 1, "Length of each tail in frames."),
}
PICK_HINT = "Click a point in the scene or on the anchor's picture to follow it."


class Panel:
    """Controls of one viewer.

    Args:
        server: server on which they appear.
        state: state that they change.
        look: called with "start", "camera" or "anchor" to move the window's camera there.
        track: called with the index of a scene and a source pixel [2] to follow.
    """

    def __init__(
        self,
        server: "ViserServer",
        state: ViewState,
        *,
        look: Callable[[str], None],
        track: Callable[[int, np.ndarray], None],
    ) -> None:
        self._gui, self._state, self._look, self._track = server.gui, state, look, track
        self._gui.add_markdown(_summary(state))
        with self._gui.add_folder("Time"):
            self._add_time()
        if len(state.scenes) > 1:
            self._add_choice()
        with self._gui.add_folder("Show"):
            self._add_settings()
        with self._gui.add_folder("Look from"):
            self._add_looks()
        self._point_folder = self._gui.add_folder("Follow a point")
        with self._point_folder:
            self._add_points()
        self._listed: tuple[Any, ...] = ()

    def update(self) -> None:
        """Update the controls from the state: the timeline advances by itself."""
        state = self._state
        self._frame.value = state.timeline.frame
        self._play.label = "Pause" if state.timeline.playing else "Play"
        self._through.value = state.through
        picked = tuple(tuple(map(id, state.paths[which])) for which in state.shown)
        if any(picked):
            self._table.content = path_table(state)
        if picked != self._listed:
            self._listed = picked
            self._update_points()

    def say(self, text: str) -> None:
        """Show a line of text below the point controls."""
        self._hint.content = text

    def _add_time(self) -> None:
        state, gui = self._state, self._gui
        self._play = gui.add_button("Play", hint="Space", color="orange")
        self._play.on_click(lambda _: state.play(not state.timeline.playing))
        self._frame = gui.add_slider("Frame", 0, max(len(state.timeline) - 1, 1), 1, state.timeline.frame)
        self._frame.on_update(lambda event: event.client and state.seek(int(self._frame.value)))
        steps = gui.add_button_group(
            "Step", ("|<", "<", ">", ">|"), hint="One frame back or forward (arrow keys); outer buttons: first and last frame."
        )
        last = len(state.timeline) - 1
        actions = {
            "|<": lambda: state.seek(0),
            "<": lambda: state.step(-1),
            ">": lambda: state.step(1),
            ">|": lambda: state.seek(last),
        }
        steps.on_click(lambda _: actions[steps.value]())
        speed = gui.add_slider("Speed", 0.1, 4.0, 0.1, 1.0, hint="Playback speed; 1 is that of the video.")
        speed.on_update(lambda _: setattr(state.timeline, "speed", float(speed.value)))
        gui.add_command("Play or pause", hotkey="space").on_trigger(lambda _: state.play(not state.timeline.playing))
        gui.add_command("Next frame", hotkey="arrowright").on_trigger(lambda _: state.step(1))
        gui.add_command("Previous frame", hotkey="arrowleft").on_trigger(lambda _: state.step(-1))

    def _add_choice(self) -> None:
        choice = self._gui.add_dropdown("Scenes", (ALL, *(layers.name for layers in self._state.scenes)))

        def chosen(_: Any) -> None:
            self._state.choose(choice.value)
            self._look("start")

        choice.on_update(chosen)

    def _add_settings(self) -> None:
        state = self._state
        for name, (label, hint) in LAYERS.items():
            box = self._gui.add_checkbox(label, getattr(Settings(), name), hint=hint)
            box.on_update(lambda _, name=name, box=box: state.set(**{name: bool(box.value)}))
        for name, (label, low, high, step, hint) in SLIDERS.items():
            slider = self._gui.add_slider(label, low, high, step, getattr(Settings(), name), hint=hint)
            slider.on_update(lambda _, name=name, slider=slider: state.set(**{name: slider.value}))

    def _add_looks(self) -> None:
        self._through = self._gui.add_checkbox("Through this frame's camera", False, hint="Follow the camera over time.")
        self._through.on_update(lambda event: event.client and self._look("camera" if self._through.value else "start"))
        self._gui.add_button("From the anchor's camera", hint="Single pixels of its picture can then be clicked.").on_click(
            lambda _: self._look("anchor")
        )
        self._gui.add_button("Whole scene").on_click(lambda _: self._look("start"))

    def _add_points(self) -> None:
        state = self._state
        self._hint = self._gui.add_markdown(PICK_HINT)
        self._pictures = {
            which: self._gui.add_image(marked_picture(layers, []), label="Anchor" if len(state.scenes) == 1 else layers.name)
            for which, layers in enumerate(state.scenes)
        }
        height, width = state.scenes[0].scene.source_size
        pixel = self._gui.add_vector2(
            "Pixel", (width / 2, height / 2), step=1.0, hint="(u, v) of the source video, in the anchor frame."
        )
        follow = self._gui.add_button("Follow this pixel")

        @follow.on_click
        def _(_: Any) -> None:
            for which in state.shown:
                self._track(which, np.array(pixel.value))

        self._table = self._gui.add_markdown("", visible=False)
        self._units = self._gui.add_markdown("*World units, and units per second.*", visible=False)
        self._clear = self._gui.add_button("Remove these points", visible=False)
        self._clear.on_click(lambda _: state.clear_paths())
        self._plots: list[Any] = []

    def _update_points(self) -> None:
        """Update marks, curves and table of the picked points."""
        state = self._state
        some = any(state.paths[which] for which in state.shown)
        self._table.visible = self._units.visible = self._clear.visible = some
        for plot in self._plots:
            plot.remove()
        with self._point_folder:
            self._plots = [self._add_plot(which) for which in state.shown if state.paths[which]]
        for which, picture in self._pictures.items():
            picture.image = marked_picture(state.scenes[which], state.paths[which])
            picture.visible = which in state.shown

    def _add_plot(self, which: int) -> Any:
        """Plot the speed of one scene's picked points over time."""
        paths = self._state.paths[which]
        time_s = paths[0].time_s
        series = [{"label": "s"}]
        for k in range(len(paths)):
            red, green, blue = PICKED_COLOURS[k % len(PICKED_COLOURS)]
            series.append({"label": f"{k + 1}", "stroke": f"rgb({red},{green},{blue})", "width": 2})  # pyright: ignore[reportArgumentType]
        name = "" if len(self._state.scenes) == 1 else f" ({self._state.scenes[which].name})"
        axes = tuple({"stroke": "#9aa0aa", "grid": {"stroke": "#3a3f48", "width": 1}} for _ in range(2))
        return self._gui.add_uplot(
            (time_s, *(np.nan_to_num(path.speed) for path in paths)),
            tuple(series),  # pyright: ignore[reportArgumentType]
            title=f"Units per second{name}",
            axes=axes,  # pyright: ignore[reportArgumentType]
            scales={"x": {"time": False}},
            height=190,
        )


def _summary(state: ViewState) -> str:
    """Describe the scenes and the shown part of them."""
    lines = []
    for which, layers in enumerate(state.scenes):
        height, width = layers.scene.rgb.shape[1:3]
        model = dict(layers.scene.info.get("model", {})).get("name")
        made = f", model {model}" if model else ""
        lines.append(f"**{layers.name}**: {len(layers.scene)} frames of {width} × {height}{made}.")
        placement = state.placements.get(which)
        if placement is not None and placement.rescaled:
            lines.append(f"Scaled by {placement.scale:.3g} to the size of the first scene.")
    budget = Budget(frames=10**9, points_per_frame=Settings().points)
    return "  \n".join([*lines, decimation(state.scenes[0].scene, budget)])
