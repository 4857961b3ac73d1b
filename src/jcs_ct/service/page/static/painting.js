// What a reader changed, stroke by stroke: undo and redo keep the voxels that differ, not copies of the volume.

export class Changes {
  constructor(mask, { most = 100 } = {}) {
    this.last = mask.slice();
    this.past = [];
    this.future = [];
    this.most = most;
  }

  /** Note what differs from the last time as one stroke; whether there was anything. */
  note(mask) {
    const places = [];
    for (let place = 0; place < mask.length; place += 1) {
      if ((mask[place] > 0) !== (this.last[place] > 0)) places.push(place);
    }
    if (!places.length) return false;
    this.past.push(Uint32Array.from(places));
    if (this.past.length > this.most) this.past.shift();
    this.future = [];
    this.#flip(this.past.at(-1), this.last);
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
    this.#flip(places, mask);
    this.#flip(places, this.last);
    return true;
  }

  #flip(places, mask) {
    for (const place of places) mask[place] = mask[place] > 0 ? 0 : 1;
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

/** gzip of one byte a voxel, 0 or 1. */
export async function packed(mask) {
  const plain = mask.map((value) => (value > 0 ? 1 : 0));
  return new Response(new Blob([plain]).stream().pipeThrough(new CompressionStream("gzip"))).blob();
}
