// Another study of the same patient beside the first: it follows slice by slice, both ways.

import { Viewer, onSlice, sliceOf } from "./viewer.js";

/** First and last slice with lung, or all. */
function lungs(slices) {
  const inside = slices.filter((slice) => slice.has_lung).map((slice) => slice.slice_index);
  return inside.length > 1 ? [inside[0], inside.at(-1)] : [0, slices.length - 1];
}

/** The voxel of `to` at the same place between the top and the bottom of the lungs, and in the chest's box. */
export function samePlace(from, to, voxel) {
  const [top, bottom] = lungs(from.slices);
  const [otherTop, otherBottom] = lungs(to.slices);
  const part = (sliceOf(from.grid, voxel) - top) / Math.max(1, bottom - top);
  const slice = Math.round(otherTop + part * (otherBottom - otherTop));
  const moved = voxel.map((value, axis) => (value / Math.max(1, from.grid.shape[axis] - 1)) * (to.grid.shape[axis] - 1));
  return onSlice(to.grid, Math.max(0, Math.min(to.slices.length - 1, slice)), moved);
}

/** Load the other study and let the two follow each other. */
export async function startBeside(canvas, mine, viewer, other) {
  const beside = new Viewer(canvas, other.grid);
  await beside.load(other.study_id, other.version, mine.windows[0]);
  let following = false;
  const follow = (target, from, to) => (position) => {
    if (following) return;
    following = true;
    target.goTo(samePlace(from, to, position.voxel));
    following = false;
  };
  const show = viewer.onMove;
  const lead = follow(beside, mine, other);
  viewer.onMove = (position) => {
    show(position);
    lead(position);
  };
  beside.onMove = follow(viewer, other, mine);
  viewer.onMove(viewer.position());
  return beside;
}
