// What a player of recorded frames needs: it follows stage.js in one inline module.

/** Frames are packed as differences from the frame before, mod 256. */
async function unpack(text, count) {
  const stream = new Blob([decode(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer()), size = bytes.length / count;
  for (let at = size; at < bytes.length; at++) bytes[at] = (bytes[at] + bytes[at - size]) & 255;
  return Array.from({ length: count }, (_, frame) => bytes.subarray(frame * size, (frame + 1) * size));
}

/** A model as the stage expects it. */
class Film {
  constructor(scene) {
    this.values = { scene, frame: null, moving: false };
    this.heard = new Map();
  }

  get(name) { return this.values[name]; }

  on(event, call) { this.heard.set(event, [...(this.heard.get(event) ?? []), call]); }

  set(values) {
    Object.assign(this.values, values);
    for (const name of Object.keys(values)) for (const call of this.heard.get(`change:${name}`) ?? []) call();
  }
}
