// Data of the page: a JSON header, and every frame as base64 of deflated bytes (written by page.py).

const header = JSON.parse(document.getElementById("scene").textContent);

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Points as uint16 x, y, z, w; w holds the confidence level (high byte) and the distance to the neighbours (low byte).
 * Positions are stored as high and low bytes of the difference from the left and upper neighbours.
 */
function unpackPoints(bytes, count) {
  const points = new Uint16Array(4 * count), columns = header.pixels.columns.length;
  const low = bytes.subarray(3 * count), sure = bytes.subarray(6 * count);
  const scale = 65535 / (2 ** header.bits - 1), above = new Int32Array(columns);
  for (let axis = 0; axis < 3; axis++) {
    above.fill(0);
    for (let i = 0, k = axis * count, run = 0; i < count; i++, k++) {
      const folded = (bytes[k] << 8) + low[k];
      run = (i % columns ? run : 0) + (folded & 1 ? -(folded + 1) / 2 : folded / 2);
      above[i % columns] += run;
      points[4 * i + axis] = Math.round(scale * above[i % columns]);
    }
  }
  for (let i = 0; i < count; i++) points[4 * i + 3] = 256 * sure[i] + (sure[i] ? spreadCode(points, sure, i, columns) : 0);
  return points;
}

/** Distance of a point to its right and lower neighbours, as a byte: 255 is the scene's extent, 24 less is half of it. */
function spreadCode(points, sure, i, columns) {
  const size = header.box.size;
  let furthest = 0;
  for (const next of [i + 1, i + columns]) {
    if (!sure[next] || (next === i + 1 && next % columns === 0)) continue;
    let squared = 0;
    for (let axis = 0; axis < 3; axis++) squared += ((points[4 * next + axis] - points[4 * i + axis]) * size[axis]) ** 2;
    furthest = Math.max(furthest, squared);
  }
  return Math.max(0, Math.min(255, Math.round(255 + 24 * Math.log2(Math.sqrt(furthest) / 65535 / header.extent))));
}

/** Tracked points among the anchor's points; w: whether a point is unknown, occluded or visible. */
function trackedPoints(tracking, seen) {
  const tracks = new Uint16Array(4 * header.tracks.length);
  header.tracks.forEach((point, k) => {
    tracks.set(tracking.subarray(4 * point, 4 * point + 3), 4 * k);
    tracks[4 * k + 3] = tracking[4 * point + 3] === 0 ? 0 : seen[k] ? 65535 : 32768;
  });
  return tracks;
}

/** One frame: `reconstruction`, `tracking` and `tracks` as [points][x, y, z, w], `picture` as an ImageBitmap. */
async function readFrame(index) {
  const element = document.getElementById(`frame-${index}`);
  const bytes = await inflated(bytesOf(element.textContent));
  element.remove(); // the text is no longer needed
  const count = header.pixels.rows.length * header.pixels.columns.length;
  const reconstruction = unpackPoints(bytes, count);
  const tracking = unpackPoints(bytes.subarray(7 * count), count);
  const tracks = trackedPoints(tracking, bytes.subarray(14 * count, 14 * count + header.tracks.length));
  const jpeg = new Blob([bytes.subarray(14 * count + header.tracks.length)], { type: "image/jpeg" });
  return { reconstruction, tracking, tracks, picture: await createImageBitmap(jpeg) };
}
