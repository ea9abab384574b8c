// WebGL2 renderer of a scene: points into a picture with depth, shaded at depth edges, then lines over it.

const CORNERS = [[0, 0], [1, 0], [0, 1], [1, 1]];

class Program {
  constructor(gl, name) {
    this.gl = gl;
    this.program = gl.createProgram();
    const [vertex, fragment] = name.split("+");
    for (const [type, source] of [[gl.VERTEX_SHADER, SHADERS[`${vertex}.vert`]], [gl.FRAGMENT_SHADER, SHADERS[`${fragment}.frag`]]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
    }
    gl.linkProgram(this.program);
    if (!gl.getProgramParameter(this.program, gl.LINK_STATUS)) throw new Error(`${name}: ${gl.getProgramInfoLog(this.program)}`);
    this.uniforms = {};
    for (let i = 0; i < gl.getProgramParameter(this.program, gl.ACTIVE_UNIFORMS); i++) {
      const { name: uniform, type } = gl.getActiveUniform(this.program, i);
      this.uniforms[uniform] = { type, location: gl.getUniformLocation(this.program, uniform) };
    }
    this.vertexArray = gl.createVertexArray();
  }

  use(values) {
    this.gl.useProgram(this.program);
    this.gl.bindVertexArray(this.vertexArray);
    this.set(values);
  }

  set(values) {
    const gl = this.gl;
    for (const [name, value] of Object.entries(values)) {
      const { type, location } = this.uniforms[name];
      if (type === gl.FLOAT_MAT4) gl.uniformMatrix4fv(location, false, value);
      else if (type === gl.FLOAT_VEC3) gl.uniform3fv(location, value);
      else if (type === gl.FLOAT_VEC2) gl.uniform2fv(location, value);
      else if (type === gl.FLOAT) gl.uniform1f(location, value);
      else gl.uniform1i(location, value);
    }
  }

  /** Connects an attribute of `width` numbers; integers are normalised by their largest value. */
  attribute(name, buffer, type, width, { offset = 0, perInstance = false } = {}) {
    const gl = this.gl, place = gl.getAttribLocation(this.program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, width, type, type !== gl.FLOAT, 0, offset);
    gl.vertexAttribDivisor(place, perInstance ? 1 : 0);
  }
}

class Renderer {
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("WebGL2 is not available");
    this.gl = gl;
    this.canvas = canvas;
    this.programs = Object.fromEntries(["points+points", "screen+screen", "lines+lines", "picture+picture"].map((name) => [name.split("+")[0], new Program(gl, name)]));
    this.frames = [];
    const { rows, columns } = header.pixels;
    const [width, height] = header.size;
    this.count = rows.length * columns.length;
    this.pixel = this.buffer(new Float32Array(rows.flatMap((row) => columns.flatMap((column) => [(column + 0.5) / width, (row + 0.5) / height]))));
    this.moves = this.buffer(new Uint8Array(bytesOf(header.moving)).map((moves) => 255 * moves));
    this.trackColours = this.buffer(bytesOf(header.track_colours));
    this.tracks = this.buffer(new Uint16Array(4 * header.tracks.length * header.frames.length));
    this.makeCameras();
    this.layer = { framebuffer: gl.createFramebuffer(), colours: gl.createTexture(), depths: gl.createTexture(), size: [0, 0] };
    this.extent = header.extent;
  }

  buffer(values) {
    const gl = this.gl, buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    return buffer;
  }

  /** Stores a frame returned by `readFrame`. */
  upload(index, { reconstruction, tracking, tracks, picture }) {
    const gl = this.gl, texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, picture);
    this.smooth(gl.LINEAR);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.tracks);
    gl.bufferSubData(gl.ARRAY_BUFFER, 2 * tracks.length * index, tracks);
    this.frames[index] = { reconstruction: this.buffer(reconstruction), tracking: this.buffer(tracking), picture: texture };
  }

  smooth(filter) {
    const gl = this.gl;
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, filter);
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
  }

  /** Camera path, and a pyramid for each camera, as segments from `a` to `b` with a tint. */
  makeCameras() {
    const length = 0.035 * header.extent, [width, height] = header.size;
    const a = [], b = [], tint = [];
    this.cornersOf = header.frames.map(({ world_from_camera: m, intrinsics: [fx, fy, cx, cy] }) =>
      CORNERS.map(([u, v]) => {
        const ray = [length * (u * width - cx) / fx, length * (v * height - cy) / fy, length];
        return [0, 1, 2].map((row) => m[4 * row] * ray[0] + m[4 * row + 1] * ray[1] + m[4 * row + 2] * ray[2] + m[4 * row + 3]);
      }));
    const centres = header.frames.map(({ world_from_camera: m }) => [m[3], m[7], m[11]]);
    const segment = (from, to, colour) => (a.push(...from, 1), b.push(...to, 1), tint.push(...colour, 1));
    header.frames.forEach(({ colour }, t) => {
      for (const corner of this.cornersOf[t]) segment(centres[t], corner, colour);
      for (const [from, to] of [[0, 1], [1, 3], [3, 2], [2, 0]]) segment(this.cornersOf[t][from], this.cornersOf[t][to], colour);
    });
    this.wayStart = a.length / 4;
    for (let t = 1; t < centres.length; t++) segment(centres[t - 1], centres[t], header.frames[t].colour);
    this.cameraLines = { a: this.buffer(new Float32Array(a)), b: this.buffer(new Float32Array(b)), tint: this.buffer(new Float32Array(tint)) };
    this.corner = this.gl.createBuffer();
  }

  /** Draws frame `t`; `settings` are the layers and sliders of the page, `view` comes from camera.js. */
  draw(t, settings, view) {
    const gl = this.gl;
    this.fitLayer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.layer.framebuffer);
    gl.viewport(0, 0, ...this.layer.size);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    gl.depthMask(true);
    gl.disable(gl.BLEND);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    this.drawPoints(t, settings, view);
    if (settings.cameras && !settings.through) this.drawPicture(t, view);

    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    this.shadeEdges(view);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthMask(false);
    // Lines behind points are drawn faintly.
    for (const [depth, opacity] of [[gl.GREATER, 0.3], [gl.LEQUAL, 1]]) {
      gl.depthFunc(depth);
      if (settings.cameras && !settings.through) this.drawCameras(t, settings, view, opacity);
      if (settings.tracks) this.drawTracks(t, settings, view, opacity);
    }
  }

  fitLayer() {
    const gl = this.gl, { width, height } = this.canvas, layer = this.layer;
    if (layer.size[0] === width && layer.size[1] === height) return;
    layer.size = [width, height];
    gl.bindFramebuffer(gl.FRAMEBUFFER, layer.framebuffer);
    for (const [texture, inside, format, type, place] of [
      [layer.colours, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, gl.COLOR_ATTACHMENT0],
      [layer.depths, gl.DEPTH_COMPONENT24, gl.DEPTH_COMPONENT, gl.UNSIGNED_INT, gl.DEPTH_ATTACHMENT],
    ]) {
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, inside, width, height, 0, format, type, null);
      this.smooth(gl.NEAREST);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, place, gl.TEXTURE_2D, texture, 0);
    }
  }

  drawPoints(t, settings, view) {
    const program = this.programs.points, gl = this.gl;
    program.use({
      clip_from_world: view.clip, box_low: header.box.low, box_size: header.box.size, extent: header.extent, size: settings.size, focal_px: view.focal,
      least_sure: settings.sure, only_moving: settings.moving, picture: 0,
    });
    gl.activeTexture(gl.TEXTURE0);
    program.attribute("pixel", this.pixel, gl.FLOAT, 2);
    program.attribute("moves", this.moves, gl.UNSIGNED_BYTE, 1);
    if (settings.tracking) this.drawPointmap("tracking", t, header.anchor, { paleness: settings.moving ? 0 : header.paleness });
    if (settings.moving) return; // dynamic points are known for the anchor only
    for (const frame of settings.accumulated ? accumulatedFrames(t) : settings.reconstruction ? [t] : []) {
      this.drawPointmap("reconstruction", frame, frame, { paleness: 0 });
    }
  }

  /** Points of a branch at frame `t`, observed by the camera of frame `seenIn`, whose picture has their colours. */
  drawPointmap(branch, t, seenIn, values) {
    const gl = this.gl, frame = this.frames[t], seen = this.frames[seenIn];
    if (!frame || !seen) return;
    const { world_from_camera: m, intrinsics } = header.frames[seenIn];
    this.programs.points.set({ ...values, seen_from: [m[3], m[7], m[11]], spacing: header.pixels.pitch / intrinsics[0] });
    this.programs.points.attribute("place", frame[branch], gl.UNSIGNED_SHORT, 4);
    gl.bindTexture(gl.TEXTURE_2D, seen.picture);
    gl.drawArrays(gl.POINTS, 0, this.count);
  }

  drawPicture(t, view) {
    if (!this.frames[t]) return;
    const gl = this.gl, program = this.programs.picture;
    program.use({ clip_from_world: view.clip, picture: 0 });
    gl.bindBuffer(gl.ARRAY_BUFFER, this.corner);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(this.cornersOf[t].flat()), gl.DYNAMIC_DRAW);
    program.attribute("corner", this.corner, gl.FLOAT, 3);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.frames[t].picture);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  shadeEdges(view) {
    const gl = this.gl, reach = Math.max(1, Math.round(1.2 * devicePixelRatio));
    gl.depthFunc(gl.ALWAYS);
    this.programs.screen.use({ colours: 0, depths: 1, near: view.near, far: view.far, reach_px: reach });
    [this.layer.colours, this.layer.depths].forEach((texture, unitIndex) => {
      gl.activeTexture(gl.TEXTURE0 + unitIndex);
      gl.bindTexture(gl.TEXTURE_2D, texture);
    });
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.bindTexture(gl.TEXTURE_2D, null); // the next picture writes to the depth texture
    gl.activeTexture(gl.TEXTURE0);
  }

  drawCameras(t, settings, view, opacity) {
    const { a, b, tint } = this.cameraLines, gl = this.gl, program = this.programs.lines;
    const box = { box_low: [0, 0, 0], box_size: [1, 1, 1], longest: 1e30, faintest: 0 };
    program.use({ ...box, clip_from_world: view.clip, screen_px: this.layer.size, near: view.near, opacity: 0.55 * opacity, width_px: 1.2 * devicePixelRatio });
    const draw = (first, count) => {
      for (const [name, buffer] of [["a", a], ["b", b], ["tint", tint]]) program.attribute(name, buffer, gl.FLOAT, 4, { offset: 16 * first, perInstance: true });
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
    };
    for (const frame of spread(header.frames.length, 8)) draw(8 * frame, 8);
    program.set({ width_px: 2 * devicePixelRatio });
    draw(this.wayStart, header.frames.length - 1);
    program.set({ opacity, width_px: 2.5 * devicePixelRatio });
    draw(8 * t, 8);
  }

  drawTracks(t, settings, view, opacity) {
    const gl = this.gl, program = this.programs.lines, count = header.tracks.length, stride = 8 * count;
    const box = { box_low: header.box.low, box_size: header.box.size, longest: 0.12 * this.extent };
    program.use({ ...box, faintest: settings.moving ? 0.9 : 0, clip_from_world: view.clip, screen_px: this.layer.size, near: view.near });
    program.attribute("tint", this.trackColours, gl.UNSIGNED_BYTE, 4, { perInstance: true });
    const draw = (from, to, width, alpha) => {
      program.set({ width_px: width * devicePixelRatio, opacity: alpha * opacity });
      program.attribute("a", this.tracks, gl.UNSIGNED_SHORT, 4, { offset: from * stride, perInstance: true });
      program.attribute("b", this.tracks, gl.UNSIGNED_SHORT, 4, { offset: to * stride, perInstance: true });
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
    };
    const oldest = Math.max(t - settings.tail, 0);
    for (let past = oldest; past < t; past++) draw(past, past + 1, 1.8, 0.15 + 0.85 * ((past - oldest + 1) / (t - oldest)));
    draw(t, t, 4.5, 1);
  }
}

/** At most `count` of 0..length-1, evenly spread, including the first and last. */
function spread(length, count) {
  const chosen = Math.min(length, count);
  return Array.from({ length: chosen }, (_, k) => Math.round((k * (length - 1)) / Math.max(chosen - 1, 1)));
}

/** Accumulated frames up to t. The selection does not change over time, so that nothing flickers. */
function accumulatedFrames(t) {
  return [...new Set([...spread(header.frames.length, header.most_accumulated).filter((frame) => frame <= t), t])];
}
