#version 300 es
precision highp float;
in vec2 pixel;
uniform sampler2D picture;
out vec4 shown;

void main() {
  shown = vec4(texture(picture, pixel).rgb, 1.0);
}
