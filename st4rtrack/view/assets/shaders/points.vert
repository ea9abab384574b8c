#version 300 es
// Pointmap: every point is a disc of its pixel's size in the world, so that surfaces look closed from any viewpoint.
in vec4 place;  // xyz in the box, 0 to 1; w: two bytes, see unpackPoints in data.js
in vec2 pixel;  // position of its colour in the picture, 0 to 1
in float moves;
uniform mat4 clip_from_world;
uniform vec3 box_low;
uniform vec3 box_size;
uniform vec3 seen_from;  // centre of the camera that observed the points
uniform float spacing;   // spacing of its pixels at distance 1
uniform float extent;
uniform float size;
uniform float focal_px;
uniform float least_sure;
uniform float paleness;  // of static points
uniform bool only_moving;
uniform sampler2D picture;
out vec3 colour;

void main() {
  vec3 world = box_low + box_size * place.xyz;
  gl_Position = clip_from_world * vec4(world, 1.0);
  float code = round(65535.0 * place.w), sure = floor(code / 256.0) / 255.0;
  // a surface observed at a slant has larger gaps between its points
  float level = spacing * distance(world, seen_from), apart = extent * exp2((mod(code, 256.0) - 255.0) / 24.0);
  float diameter = size * clamp(0.8 * apart, level, 2.5 * level);
  gl_PointSize = clamp(diameter * focal_px / gl_Position.w, 1.5, 48.0);
  if (sure <= least_sure || (only_moving && moves < 0.5) || gl_Position.w <= 0.0) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  colour = mix(textureLod(picture, pixel, 0.0).rgb, vec3(0.36, 0.38, 0.41), moves < 0.5 ? paleness : 0.0);
}
