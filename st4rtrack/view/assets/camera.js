// Virtual camera: vectors, projections, and an orbit around a point. Matrices are column-major, as in WebGL.

const add = (a, b, factor = 1) => a.map((value, i) => value + factor * b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((value) => value / Math.max(Math.hypot(...a), 1e-12));

function multiply(a, b) {
  const product = new Float32Array(16);
  for (let column = 0; column < 4; column++)
    for (let row = 0; row < 4; row++)
      for (let k = 0; k < 4; k++) product[4 * column + row] += a[4 * k + row] * b[4 * column + k];
  return product;
}

/** clip_from_world of a camera with the axes right, up, forward at eye; slope: half the picture's [width, height] at depth 1. */
function clipFromWorld({ right, up, forward, eye }, slope, shift, near, far) {
  const back = forward.map((value) => -value);
  const view = [right, up, back].map((axis) => [...axis, -dot(axis, eye)]);
  const viewMatrix = [0, 1, 2, 3].flatMap((column) => [view[0][column], view[1][column], view[2][column], column === 3 ? 1 : 0]);
  const depth = [(far + near) / (near - far), (2 * far * near) / (near - far)];
  // biome-ignore format: a matrix
  const projection = [1 / slope[0], 0, 0, 0, 0, 1 / slope[1], 0, 0, -shift[0], -shift[1], depth[0], -1, 0, 0, depth[1], 0];
  return multiply(projection, viewMatrix);
}

class Orbit {
  constructor(start, extent) {
    this.start = start;
    this.extent = extent;
    this.reset();
  }

  reset() {
    const away = add(this.start.eye, this.start.target, -1);
    this.up = unit(this.start.up);
    this.target = [...this.start.target];
    this.distance = Math.hypot(...away);
    const direction = unit(away);
    this.elevation = Math.asin(Math.max(-1, Math.min(1, dot(direction, this.up))));
    // azimuth 0 is the start view
    this.ahead = unit(add(direction, this.up, -dot(direction, this.up)));
    this.azimuth = 0;
    this.slope = Math.tan((this.start.fov_deg * Math.PI) / 360);
  }

  axes() {
    const side = cross(this.up, this.ahead);
    const level = add(this.ahead.map((value) => Math.cos(this.azimuth) * value), side, Math.sin(this.azimuth));
    const direction = add(level.map((value) => Math.cos(this.elevation) * value), this.up, Math.sin(this.elevation));
    const forward = direction.map((value) => -value);
    const right = unit(cross(forward, this.up));
    return { right, up: cross(right, forward), forward, eye: add(this.target, direction, this.distance) };
  }

  turn(across, down) {
    this.azimuth -= across;
    this.elevation = Math.max(-1.5, Math.min(1.5, this.elevation + down));
  }

  /** Moves the target; distances relative to the window's height. */
  pan(across, down) {
    const { right, up } = this.axes();
    const reach = 2 * this.slope * this.distance;
    this.target = add(add(this.target, right, -across * reach), up, down * reach);
  }

  zoom(factor) {
    this.distance = Math.max(0.01 * this.extent, Math.min(20 * this.extent, this.distance * factor));
  }

  /** View for the renderer, for a canvas [width, height] whose part `free` {left, right, top, bottom} is not covered by panels. */
  view(width, height, free) {
    const [freeWidth, freeHeight] = [free.right - free.left, free.bottom - free.top];
    // the start view was fitted to a window of that aspect ratio; a narrower one needs more height
    const slope = this.slope * Math.max(1, (this.start.aspect * freeHeight) / freeWidth);
    const focal = freeHeight / (2 * slope);
    const shift = [(free.left + free.right) / width - 1, 1 - (free.top + free.bottom) / height];
    const [near, far] = depthRange(this.extent);
    return { clip: clipFromWorld(this.axes(), [width / (2 * focal), height / (2 * focal)], shift, near, far), focal, near, far };
  }
}

const depthRange = (extent) => [0.004 * extent, 60 * extent];

/** The view of a frame's own camera; its picture fills the free part of the canvas. */
function viewOfCamera(camera, width, height, free) {
  const [w, h] = header.size;
  const scale = Math.min((free.right - free.left) / w, (free.bottom - free.top) / h);
  const [fx, fy, cx, cy] = camera.intrinsics;
  const [near, far] = depthRange(header.extent);
  const m = camera.world_from_camera; // row-major; x right, y down, z forward
  const column = (k, sign) => [0, 1, 2].map((row) => sign * m[4 * row + k]);
  const axes = { right: column(0, 1), up: column(1, -1), forward: column(2, 1), eye: column(3, 1) };
  const slope = [width / (2 * scale * fx), height / (2 * scale * fy)];
  // position of the principal point on the canvas, later mapped to -1..1
  const [u, v] = [(free.left + free.right) / 2 + scale * (cx - w / 2), (free.top + free.bottom) / 2 + scale * (cy - h / 2)];
  return { clip: clipFromWorld(axes, slope, [(2 * u) / width - 1, 1 - (2 * v) / height], near, far), focal: scale * fy, near, far };
}
