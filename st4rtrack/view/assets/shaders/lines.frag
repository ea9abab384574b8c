#version 300 es
precision highp float;
in vec2 at_px;
flat in vec2 end_px;
flat in vec4 colour;
flat in float radius_px;
uniform float opacity;
out vec4 shown;

void main() {
  float along = clamp(dot(at_px, end_px) / max(dot(end_px, end_px), 1e-6), 0.0, 1.0);
  float cover = clamp(radius_px + 0.5 - distance(at_px, along * end_px), 0.0, 1.0);
  if (cover <= 0.0) discard;
  shown = vec4(colour.rgb, colour.a * cover * opacity);
}
