#version 300 es
// Picture of the frame in the frustum of its camera.
in vec3 corner;
uniform mat4 clip_from_world;
out vec2 pixel;

void main() {
  pixel = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  gl_Position = clip_from_world * vec4(corner, 1.0);
}
