// What a reader changed, stroke by stroke: undo and redo keep the voxels that differ, not copies of the volume.

export class Changes {
  constructor(mask, { most = 100 } = {}) {
    this.last = new Uint8Array(Math.ceil(mask.length / 8)); // a bit a voxel
    for (let place = 0; place < mask.length; place += 1) if (mask[place]) this.last[place >> 3] |= 1 << (place & 7);
    this.past = [];
    this.future = [];
    this.most = most;
  }

  /** Note what differs from the last time as one stroke; whether there was anything. */
  note(mask) {
    const places = [];
    for (let start = 0; start < mask.length; start += 8) {
      const before = this.last[start >> 3];
      let now = 0;
      const stop = Math.min(8, mask.length - start);
      for (let bit = 0; bit < stop; bit += 1) if (mask[start + bit]) now |= 1 << bit;
      for (let differs = before ^ now, bit = 0; differs; differs >>= 1, bit += 1) if (differs & 1) places.push(start + bit);
      this.last[start >> 3] = now;
    }
    if (!places.length) return false;
    this.past.push(Uint32Array.from(places));
    if (this.past.length > this.most) this.past.shift();
    this.future = [];
    return true;
  }

  undo(mask) {
    return this.#move(this.past, this.future, mask);
  }

  redo(mask) {
    return this.#move(this.future, this.past, mask);
  }

  #move(from, to, mask) {
    const places = from.pop();
    if (!places) return false;
    to.push(places);
    for (const place of places) {
      mask[place] = mask[place] > 0 ? 0 : 1;
      this.last[place >> 3] ^= 1 << (place & 7);
    }
    return true;
  }
}

/** Widen the mask by one voxel on one axial slice (z). */
export function growOnSlice(mask, [nx, ny], z) {
  const start = nx * ny * z;
  const before = mask.slice(start, start + nx * ny);
  for (let y = 0; y < ny; y += 1) {
    for (let x = 0; x < nx; x += 1) {
      const place = x + nx * y;
      const near = (x > 0 && before[place - 1]) || (x < nx - 1 && before[place + 1]) || (y > 0 && before[place - nx]) || (y < ny - 1 && before[place + nx]);
      if (near) mask[start + place] = 1;
    }
  }
}

/**
 * Mark what hangs together with the seed, has its grey value, and lies near.
 *
 * @param hu HU of every voxel, x fastest
 * @param mask is added to
 * @param shape [nx, ny, nz]
 * @param spacing mm of a voxel along each axis
 * @param seed [x, y, z]
 * @param tolerance HU that a voxel may differ from the mean around the seed
 * @param reach mm from the seed
 * @returns how many voxels were added
 */
export function growByGrey(hu, mask, shape, spacing, seed, tolerance, reach) {
  const [nx, ny] = shape;
  const place = (x, y, z) => x + nx * (y + ny * z);
  const low = seed.map((value, axis) => Math.max(0, Math.ceil(value - reach / spacing[axis])));
  const high = seed.map((value, axis) => Math.min(shape[axis] - 1, Math.floor(value + reach / spacing[axis])));
  let sum = 0;
  let count = 0;
  for (let y = Math.max(0, seed[1] - 1); y <= Math.min(ny - 1, seed[1] + 1); y += 1) {
    for (let x = Math.max(0, seed[0] - 1); x <= Math.min(nx - 1, seed[0] + 1); x += 1) {
      sum += hu[place(x, y, seed[2])];
      count += 1;
    }
  }
  const middle = sum / count;
  const size = high.map((value, axis) => value - low[axis] + 1);
  const seen = new Uint8Array(size[0] * size[1] * size[2]);
  const waiting = [seed];
  let added = 0;
  while (waiting.length) {
    const [x, y, z] = waiting.pop();
    if (x < low[0] || y < low[1] || z < low[2] || x > high[0] || y > high[1] || z > high[2]) continue;
    const inside = x - low[0] + size[0] * (y - low[1] + size[1] * (z - low[2]));
    if (seen[inside]) continue;
    seen[inside] = 1;
    const isSeed = x === seed[0] && y === seed[1] && z === seed[2];
    const far = Math.hypot((x - seed[0]) * spacing[0], (y - seed[1]) * spacing[1], (z - seed[2]) * spacing[2]);
    if (!isSeed && (far > reach || Math.abs(hu[place(x, y, z)] - middle) > tolerance)) continue;
    if (!mask[place(x, y, z)]) added += 1;
    mask[place(x, y, z)] = 1;
    waiting.push([x + 1, y, z], [x - 1, y, z], [x, y + 1, z], [x, y - 1, z], [x, y, z + 1], [x, y, z - 1]);
  }
  return added;
}

/** gzip of one byte a voxel, 0 or 1. */
export async function packed(mask) {
  const plain = mask.map((value) => (value > 0 ? 1 : 0));
  return new Response(new Blob([plain]).stream().pipeThrough(new CompressionStream("gzip"))).blob();
}
