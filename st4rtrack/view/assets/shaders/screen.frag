#version 300 es
// Shows the points and darkens pixels behind their neighbours (eye-dome lighting), which shows shape without normals.
precision highp float;
uniform highp sampler2D colours;
uniform highp sampler2D depths;
uniform float near;
uniform float far;
uniform int reach_px;
out vec4 shown;

float log_distance(ivec2 place) {
  float depth = texelFetch(depths, clamp(place, ivec2(0), textureSize(depths, 0) - 1), 0).r;
  return log(near * far / (far - depth * (far - near)));
}

void main() {
  ivec2 here = ivec2(gl_FragCoord.xy);
  float depth = texelFetch(depths, here, 0).r;
  gl_FragDepth = depth;
  float height = gl_FragCoord.y / float(textureSize(depths, 0).y);
  vec3 ground = mix(vec3(0.075, 0.082, 0.094), vec3(0.125, 0.135, 0.15), height);
  float own = log_distance(here), behind = 0.0;
  ivec2 step = ivec2(reach_px, 0);
  for (int k = 0; k < 4; k++) {
    behind += clamp(own - log_distance(here + step), 0.0, 0.05);
    step = ivec2(-step.y, step.x);
  }
  float shade = max(exp(-4.0 * behind), 0.45);
  shown = vec4(depth < 1.0 ? shade * texelFetch(colours, here, 0).rgb : ground, 1.0);
}
