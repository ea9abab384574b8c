// User interface of the page: timeline, layers, mouse, touch and keys.

const $ = (id) => document.getElementById(id);
const SWITCHES = { reconstruction: "1", accumulated: "2", tracking: "3", moving: "4", tracks: "5", cameras: "6", picture: "7" };
const PAUSE_AT_END_S = 0.8;

const settings = { ...header.layers, sure: 0, size: 1, tail: 0, speed: 1, through: false };
const numFrames = header.frames.length;
const times = header.frames.map((frame) => frame.time_s);
const pictures = [];
let renderer, orbit;
let frame = header.start_frame, clock = times[frame], playing = false, drawn = true, last = 0;

function redraw() {
  if (!drawn) return;
  drawn = false;
  requestAnimationFrame(tick);
}

function tick(now) {
  drawn = true;
  if (playing) {
    advance(last ? Math.min((now - last) / 1000, 0.1) : 0);
    last = now;
    redraw();
  }
  draw();
}

function advance(seconds) {
  clock += seconds * settings.speed;
  const end = times[numFrames - 1];
  if (clock > end + PAUSE_AT_END_S * settings.speed) clock = times[0];
  let next = numFrames - 1;
  while (next > 0 && times[next] > clock + 1e-6) next--;
  showFrame(next);
}

function draw() {
  const canvas = $("view"), ratio = Math.min(devicePixelRatio, 2);
  const [width, height] = [Math.max(1, Math.round(canvas.clientWidth * ratio)), Math.max(1, Math.round(canvas.clientHeight * ratio))];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const view = settings.through ? viewOfCamera(header.frames[frame], width, height, freeArea(ratio)) : orbit.view(width, height, freeArea(ratio));
  renderer.draw(frame, settings, view);
}

/** Part of the canvas that no panel covers, in canvas pixels. */
function freeArea(ratio) {
  const canvas = $("view"), aside = document.querySelector("aside").getBoundingClientRect();
  const beside = aside.width && aside.left > 0.6 * canvas.clientWidth ? aside.left : canvas.clientWidth;
  const below = document.querySelector("footer").getBoundingClientRect().top;
  const above = document.querySelector("header").getBoundingClientRect().bottom;
  return { left: 0, right: beside * ratio, top: above * ratio, bottom: below * ratio };
}

function showFrame(next) {
  frame = next;
  $("time").value = String(frame);
  $("seconds").textContent = `${times[frame].toFixed(2)} s`;
  $("number").textContent = ` · frame ${header.frames[frame].number}`;
  const picture = pictures[frame];
  if (picture) $("picture").getContext("2d").drawImage(picture, 0, 0, $("picture").width, $("picture").height);
}

function seek(next) {
  play(false);
  const index = Math.max(0, Math.min(numFrames - 1, next));
  clock = times[index];
  showFrame(index);
  redraw();
}

function play(on) {
  playing = on && numFrames > 1;
  last = 0;
  $("play").textContent = playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  redraw();
}

function switchLayer(name, on) {
  settings[name] = on;
  // One reconstruction at a time: the accumulated one contains the other.
  if (on && name === "accumulated") settings.reconstruction = false;
  if (on && name === "reconstruction") settings.accumulated = false;
  if (on && name === "moving") settings.tracking = true;
  for (const other of Object.keys(SWITCHES)) $(`layer-${other}`).checked = settings[other];
  $("picture").hidden = !settings.picture;
  redraw();
}

function lookThrough(on) {
  settings.through = on;
  $("through").setAttribute("aria-pressed", String(on));
  redraw();
}

function resetView() {
  orbit.reset();
  lookThrough(false);
}

function slider(id, show, set) {
  const input = $(id);
  const apply = () => {
    $(`${id}-value`).textContent = show(Number(input.value));
    set(Number(input.value));
    redraw();
  };
  input.addEventListener("input", apply);
  apply();
  return (steps) => {
    input.value = String(Number(input.value) + steps * Number(input.step));
    apply();
  };
}

function connectControls() {
  for (const name of Object.keys(SWITCHES)) $(`layer-${name}`).addEventListener("change", (event) => switchLayer(name, event.target.checked));
  const size = slider("size", (value) => `${value.toFixed(1)} ×`, (value) => (settings.size = 1.4 * value));
  const tail = slider("tail", (value) => `${value} frames`, (value) => (settings.tail = value));
  slider("sure", (value) => `${value} %`, (value) => (settings.sure = value / 100));
  $("speed").addEventListener("change", () => (settings.speed = Number($("speed").value)));
  $("time").addEventListener("input", () => seek(Number($("time").value)));
  const press = {
    play: () => play(!playing),
    back: () => seek(frame - 1),
    on: () => seek(frame + 1),
    through: () => lookThrough(!settings.through),
    reset: resetView,
    menu: () => document.body.classList.toggle("menu-open"),
  };
  for (const [id, action] of Object.entries(press)) $(id).addEventListener("click", action);
  const keys = {
    " ": press.play, ArrowLeft: press.back, ArrowRight: press.on, Home: () => seek(0), End: () => seek(numFrames - 1),
    c: press.through, r: press.reset, "+": () => size(1), "=": () => size(1), "-": () => size(-1), "[": () => tail(-1), "]": () => tail(1),
  };
  for (const [name, key] of Object.entries(SWITCHES)) keys[key] = () => $(`layer-${name}`).disabled || switchLayer(name, !settings[name]);
  addEventListener("keydown", (event) => {
    const own = event.key === " " ? "select, input, button" : "select, input[type=range]"; // controls that use this key themselves
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key] || event.target.matches(own)) return;
    event.preventDefault();
    keys[event.key]();
  });
  // After a click the page handles keys; with keyboard navigation the focused control does.
  addEventListener("click", (event) => event.detail && event.target.matches("button, input") && event.target.blur());
  addEventListener("resize", redraw);
}

/** Drag orbits; with shift, another button or two fingers it pans; wheel and pinch zoom. */
function connectPointers() {
  const canvas = $("view"), pointers = new Map();
  const middle = () => [...pointers.values()].reduce((sum, { x, y }) => [sum[0] + x / pointers.size, sum[1] + y / pointers.size], [0, 0]);
  const gap = () => {
    const [a, b] = [...pointers.values()];
    return b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, pan: event.button !== 0 || event.shiftKey });
  });
  canvas.addEventListener("pointermove", (event) => {
    const held = pointers.get(event.pointerId);
    if (!held) return;
    const [x, y] = middle(), before = gap();
    Object.assign(held, { x: event.clientX, y: event.clientY });
    const [toX, toY] = middle(), height = canvas.clientHeight;
    if (settings.through) lookThrough(false);
    if (pointers.size > 1 || held.pan) orbit.pan((toX - x) / height, (toY - y) / height);
    else orbit.turn((3.2 * (toX - x)) / height, (3.2 * (toY - y)) / height);
    if (before && gap()) orbit.zoom(before / gap());
    redraw();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    orbit.zoom(Math.exp((event.deltaMode ? 24 : 1) * event.deltaY * 0.0012));
    redraw();
  }, { passive: false });
}

/** Reads all frames, beginning with the first one to show. */
async function load() {
  const order = [...new Set([header.start_frame, header.anchor, ...times.keys()])];
  for (const [done, index] of order.entries()) {
    const read = await readFrame(index);
    renderer.upload(index, read);
    pictures[index] = read.picture;
    $("loading").style.width = `${(100 * (done + 1)) / order.length}%`;
    if (index === frame) showFrame(frame);
    redraw();
  }
  $("loading").hidden = true;
  document.body.dataset.ready = "yes";
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play(true);
}

function start() {
  try {
    if (typeof DecompressionStream === "undefined") throw new Error("DecompressionStream is not available");
    renderer = new Renderer($("view"));
  } catch (error) {
    $("failure").textContent = `This page needs a browser of 2023 or later with WebGL2 switched on (${error.message}).`;
    $("failure").hidden = false;
    return;
  }
  orbit = new Orbit(header.start_view, header.extent);
  const [width, height] = header.size, scale = 320 / Math.max(width, height);
  [$("picture").width, $("picture").height] = [Math.round(2 * scale * width), Math.round(2 * scale * height)];
  $("time").max = String(numFrames - 1);
  $("tail").max = String(Math.max(numFrames - 1, 1));
  $("tail").value = String(Math.min(12, numFrames - 1));
  settings.speed = Number($("speed").value);
  connectControls();
  connectPointers();
  for (const name of Object.keys(SWITCHES)) switchLayer(name, settings[name]);
  load();
}

start();
