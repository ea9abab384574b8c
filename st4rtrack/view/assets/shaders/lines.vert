#version 300 es
// A segment from a to b as a capsule of constant width on the screen; a disc where a is b.
in vec4 a;  // xyz in the box, 0 to 1; w: 0 unknown, 0.5 occluded, 1 visible
in vec4 b;
in vec4 tint;
uniform mat4 clip_from_world;
uniform vec3 box_low;
uniform vec3 box_size;
uniform vec2 screen_px;
uniform float width_px;
uniform float near;
uniform float faintest; // fainter segments are skipped
uniform float longest;   // a longer step is a tracking jump, not motion
out vec2 at_px;
flat out vec2 end_px;
flat out vec4 colour;
flat out float radius_px;

void main() {
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  vec3 from_world = box_low + box_size * a.xyz, to_world = box_low + box_size * b.xyz;
  vec4 from = clip_from_world * vec4(from_world, 1.0), to = clip_from_world * vec4(to_world, 1.0);
  if (tint.a < faintest || a.w < 0.25 || b.w < 0.25 || max(from.w, to.w) <= near || distance(from_world, to_world) > longest) return;
  if (from.w < near) from = mix(to, from, (to.w - near) / (to.w - from.w));
  if (to.w < near) to = mix(from, to, (from.w - near) / (from.w - to.w));

  bool seen = min(a.w, b.w) > 0.75;
  radius_px = 0.5 * width_px * (seen ? 1.0 : 0.6) * mix(0.5, 1.0, tint.a);
  colour = vec4(tint.rgb, tint.a * (seen ? 1.0 : 0.45));
  vec2 start = 0.5 * screen_px * from.xy / from.w;
  end_px = 0.5 * screen_px * to.xy / to.w - start;
  vec2 along = length(end_px) > 1e-3 ? normalize(end_px) : vec2(1.0, 0.0);
  float reach = radius_px + 1.0;
  bool at_end = gl_VertexID > 1;
  float side = (gl_VertexID & 1) == 0 ? -1.0 : 1.0;
  at_px = (at_end ? end_px + reach * along : -reach * along) + side * reach * vec2(-along.y, along.x);
  vec4 end = at_end ? to : from;
  // drawn 2 % nearer: tracks lie on surfaces and must be drawn on top
  gl_Position = vec4(2.0 * (start + at_px) / screen_px, end.z / end.w - 0.04 * near / end.w, 1.0);
}
