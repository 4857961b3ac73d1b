// A thin adapter: all that the page knows of NiiVue 0.69 is in here.
//
// The server sends every volume with its axes along right-left, posterior-anterior, inferior-superior (NIfTI RAS+), so
// a voxel's place in NiiVue's arrays is x + nx * (y + ny * z) of the server's grid, and no axis is turned here. That
// is checked when the volume is loaded.

import { base } from "./common.js";

const LAYOUTS = { axial: 0, coronal: 1, sagittal: 2, multi: 3, render: 4 };
/** Voxels above which overlays are drawn with half the columns and rows. */
const LARGE = 8_000_000;
/** Slices that travel to the GPU together. */
const AT_A_TIME = 16;
/** Where a shader of NiiVue samples the CT. */
const CT_SAMPLE = /texture\((volume, (?:texPos|samplePos\.xyz))\)/g;
/** Colour and opacity of a grey value, as NiiVue's map "gray" has them. */
const GREY_OF = "highp vec4 greyOf(highp sampler3D from, highp vec3 at) { highp float grey = texture(from, at).r; return vec4(vec3(grey), 0.5 * grey); }\n";
/** NiiVue's rim of what is drawn, one pixel below the overlays: here two pixels above them, and a dark one within for bright ground. */
const RIM = [
  [/dFd([xy])\(texPos\); \/\/ (left-right|up-down) spacing/g, "2.0 * dFd$1(texPos); // $2 spacing"],
  [
    "dcolor.a = drawRimOpacity;",
    `{ dcolor.a = drawRimOpacity; ocolor.a *= 1.0 - drawRimOpacity; }
      else if (any(notEqual(vec4(texture(drawing, texPos - 1.6 * offsetX).r, texture(drawing, texPos + 1.6 * offsetX).r,
          texture(drawing, texPos - 1.6 * offsetY).r, texture(drawing, texPos + 1.6 * offsetY).r), vec4(drawV)))) {
        dcolor = vec4(0.0, 0.0, 0.0, 0.6 * drawRimOpacity);
        ocolor.a *= 1.0 - 0.6 * drawRimOpacity;
      }`,
  ],
];
/** Lesions are a line around hardly any colour: a fill would hide the lung, and could not be told from the map's. */
const LESION = { R: [0, 0], G: [0, 230], B: [0, 255], A: [0, 255], labels: ["", "lesion"] };
const LESION_FILL = 0.08;
/** Ground glass and consolidation (1 and 2 of `cal_min` 0.5 to `cal_max` 2): neither the map's colours nor the lesions', and apart in grey. */
const DENSITIES = { R: [47, 47, 255], G: [95, 95, 138], B: [255, 255, 216], A: [0, 110, 128], I: [0, 85, 255] };
/** What a drag does, in NiiVue's numbers. */
const DRAGS = { look: 8, measure: 2, move: 3 };

async function inflated(address) {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok) throw Object.assign(new Error(`the server answered ${answer.status} for a volume`), { status: answer.status });
  return new Response(answer.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** Bytes of an 8-bit volume, x fastest, without its NIfTI header. */
export async function readMask(address, shape) {
  const content = await inflated(address);
  const start = new DataView(content).getFloat32(108, true);
  const bytes = new Uint8Array(content, start);
  if (bytes.length !== shape[0] * shape[1] * shape[2]) throw new Error("the mask is not on the viewer's grid");
  return bytes;
}

/** An empty texture that is bound to a unit and held at its edges. */
function texture3D(gl, unit, format, [nx, ny, nz], filter = gl.LINEAR) {
  const made = gl.createTexture();
  gl.activeTexture(unit);
  gl.bindTexture(gl.TEXTURE_3D, made);
  for (const side of [gl.TEXTURE_WRAP_R, gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_3D, side, gl.CLAMP_TO_EDGE);
  for (const size of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_3D, size, filter);
  gl.texStorage3D(gl.TEXTURE_3D, 1, format, nx, ny, nz);
  return made;
}

/** Give a texture of one byte a voxel its slices from `first` to before `stop`, some at a time: a browser keeps what is on its way. */
function fillSlices(gl, unit, texture, [nx, ny], bytesOf, first, stop) {
  gl.activeTexture(unit);
  gl.bindTexture(gl.TEXTURE_3D, texture);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  for (let z = first; z < stop; z += AT_A_TIME) {
    const slices = Math.min(AT_A_TIME, stop - z);
    gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, z, nx, ny, slices, gl.RED, gl.UNSIGNED_BYTE, bytesOf(nx * ny * z, nx * ny * (z + slices)));
  }
}

export class Viewer {
  /** Whether this browser can show it. */
  static isPossible() {
    return Boolean(document.createElement("canvas").getContext("webgl2"));
  }

  constructor(canvas, grid) {
    this.grid = grid;
    this.nv = new niivue.Niivue({
      isRadiologicalConvention: true,
      sagittalNoseLeft: true, // anterior on the left, as on the report page
      backColor: [0, 0, 0, 1],
      crosshairColor: [1, 0.75, 0.2, 0.8],
      crosshairWidth: 0.4,
      crosshairWidthUnit: "percent", // of the picture, so that a line is never thinner than a pixel
      crosshairGap: 10,
      fontColor: [1, 0.8, 0.25, 1],
      showAllOrientationMarkers: true, // which side is which must not be missed
      fontMinPx: 18,
      isOrientCube: true, // nor in the rendering
      dragMode: grid.is_measurable ? DRAGS.measure : 0, // what the right button does
      dragAndDropEnabled: false,
      isNearestInterpolation: false,
      multiplanarForceRender: false,
      multiplanarPadPixels: 24,
      isColorbar: false,
      showLegend: false,
      loadingText: "",
      logLevel: "error",
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
    });
    this.canvas = canvas;
    this.onMove = () => {};
    this.#spareMemory();
    this.#paintLightly();
    this.#holdStill();
    this.#showTrueLengths();
    this.#showLetters();
  }

  /** The letters of the sides on a dark ground and whole: NiiVue draws them across the picture's edge, yellow on white. */
  #showLetters() {
    const { nv } = this;
    const draw = nv.drawSliceOrientationText.bind(nv);
    const inside = 8 * devicePixelRatio;
    nv.drawSliceOrientationText = ([left, top, width, height], ...rest) => {
      const write = nv.drawText.bind(nv);
      nv.drawText = ([x, y], letter, ...how) => {
        nv.drawRect([x - 4, y - 2, nv.textWidth(nv.fontPx, letter) + 8, nv.fontPx + 6], [0, 0, 0, 0.75]);
        write([x, y], letter, ...how);
      };
      draw([left + inside, top + inside, width - 2 * inside, height - 2 * inside], ...rest);
      delete nv.drawText; // NiiVue's own again
    };
  }

  /** A stroke on an axial slice sends this slice to the GPU and not the volume; the page keeps its own changes, both ways. */
  #paintLightly() {
    const { nv } = this;
    nv.drawAddUndoBitmap = () => {};
    nv.refreshDrawing = (redraw = true) => {
      const z = nv.drawPenLocation[2]; // NaN unless a stroke is under way
      const [first, stop] = this.layout !== "axial" || Number.isNaN(z) ? [0, this.grid.shape[2]] : [z, z + 1];
      fillSlices(nv.gl, nv.gl.TEXTURE7, nv.drawTexture, this.grid.shape, (start, end) => this.mask.subarray(start, end), first, stop);
      if (redraw) nv.drawScene();
    };
  }

  /** NiiVue focuses the canvas while a button is down: were the page to scroll then, the picture would move under the pointer. */
  #holdStill() {
    const focus = this.canvas.focus.bind(this.canvas);
    this.canvas.focus = () => focus({ preventScroll: true });
  }

  /**
   * A line is drawn only while both its ends are seen, in one plane's picture.
   *
   * NiiVue works out the length that it shows from where it draws the ends, and draws an end that a zoomed or moved
   * picture has left at the picture's edge: the line and its number would be too short.
   */
  #showTrueLengths() {
    const { nv } = this;
    const draw = nv.drawMeasurementTool.bind(nv);
    nv.drawMeasurementTool = (ends, ...rest) => {
      const [from, to] = [nv.tileIndex(ends[0], ends[1]), nv.tileIndex(ends[2], ends[3])]; // -1 at the edge, and outside
      if (from >= 0 && from === to) draw(ends, ...rest);
    };
  }

  /**
   * Textures as small as what they show.
   *
   * The CT takes one byte a voxel (its grey value) and not four, and is windowed here: NiiVue would send all of it as 16
   * bits first. Overlays have 16 levels a channel, in large studies half the columns and rows, and one texture together:
   * NiiVue makes a new one whenever an overlay changes and leaves the old one to the garbage collector, which does not
   * see how large it is. Gradients, which NiiVue works out with every window although only lit renderings show them, get
   * a pixel a slice.
   */
  #spareMemory() {
    const { nv } = this;
    this.#adaptShaders();
    this.#windowHere();
    const whole = nv.rgbaTex.bind(nv);
    let halved = false; // whether the layer that is drawn now is an overlay of half the size
    nv.rgbaTex = (texture, unit, dims, fill) => {
      const { gl } = nv;
      const [, nx, ny, nz] = dims;
      if (unit === gl.TEXTURE0) {
        halved = false;
        if (nx > 2 && this.ct) return this.ct; // one study is shown in a viewer: its texture stays
        gl.deleteTexture(texture);
        const made = texture3D(gl, unit, gl.R8, [nx, ny, nz]);
        if (nx > 2) this.ct = made;
        return made;
      }
      gl.deleteTexture(texture);
      if ([gl.TEXTURE6, gl.TEXTURE8].includes(unit) && nx > 2) return texture3D(gl, unit, gl.RGBA4, [1, 1, nz]);
      if (![gl.TEXTURE2, gl.TEXTURE10].includes(unit)) return whole(null, unit, dims, fill);
      if (unit === gl.TEXTURE2) {
        gl.deleteTexture(nv.overlayTexture);
        halved = nx * ny * nz > LARGE;
      }
      const step = halved && nx > 2 ? 2 : 1;
      const made = texture3D(gl, unit, gl.RGBA4, [Math.ceil(nx / step), Math.ceil(ny / step), nz]);
      // NiiVue has set the viewport to the whole grid by the time it asks for the texture that it blends with.
      if (halved && unit === gl.TEXTURE10) gl.viewport(0, 0, Math.ceil(this.grid.shape[0] / 2), Math.ceil(this.grid.shape[1] / 2));
      return made;
    };
    nv.r8Tex = (texture, unit, [, ...shape]) => {
      nv.gl.deleteTexture(texture);
      return texture3D(nv.gl, unit, nv.gl.R8, shape, nv.gl.NEAREST);
    };
  }

  /** Of the CT's layer NiiVue does all but sending it and drawing its colours; the grey values follow from here. */
  #windowHere() {
    const { nv } = this;
    const refresh = nv.refreshLayers.bind(nv);
    nv.refreshLayers = (volume, layer) => {
      if (layer > 0) return refresh(volume, layer);
      const { gl } = nv;
      const store = gl.texStorage3D.bind(gl);
      gl.texStorage3D = (target, levels, format, ...size) => store(target, levels, format, ...(format === gl.R16I ? [1, 1, 1] : size));
      gl.texSubImage3D = () => {};
      gl.drawArrays = () => {};
      try {
        refresh(volume, layer);
      } finally {
        for (const name of ["texStorage3D", "texSubImage3D", "drawArrays"]) delete gl[name]; // the context's own again
      }
      return this.#sendGrey(volume);
    };
  }

  #sendGrey({ img, cal_min: low, cal_max: high }) {
    const { nv, grid } = this;
    if (this.sent === `${low} ${high}`) return; // another layer came or went
    this.sent = `${low} ${high}`;
    const [nx, ny, nz] = grid.shape;
    const bytes = new Uint8ClampedArray(nx * ny * AT_A_TIME);
    const scale = 255 / (high - low);
    const greys = (start, stop) => {
      for (let place = start; place < stop; place += 1) bytes[place - start] = (img[place] - low) * scale; // rounds and clamps
      return new Uint8Array(bytes.buffer, 0, stop - start);
    };
    fillSlices(nv.gl, nv.gl.TEXTURE0, nv.volumeTexture, grid.shape, greys, 0, nz);
  }

  /** NiiVue's shaders sample the CT's colour and opacity; its texture holds the grey value, which gives both. Rims as of `RIM`. */
  #adaptShaders() {
    const open = this.canvas.getContext.bind(this.canvas);
    this.canvas.getContext = (...asked) => {
      const gl = open(...asked);
      const give = gl.shaderSource.bind(gl);
      gl.shaderSource = (shader, text) => {
        const grey = text.replace(CT_SAMPLE, "greyOf($1)");
        const whole = grey === text ? text : grey.replace("#version 300 es\n", (version) => version + GREY_OF);
        give(shader, RIM.reduce((code, [from, to]) => code.replace(from, to), whole));
      };
      return gl;
    };
  }

  /** Load a version of a study, at first in a window ({level_hu, width_hu}). */
  async load(study, version, { level_hu: level, width_hu: width }) {
    await this.nv.attachToCanvas(this.canvas, false); // slices have no edges to smooth: less memory, faster
    this.densities = null;
    const address = (name) => `${base}/api/v1/studies/${study}/viewer/${name}?version=${version}`;
    await this.nv.loadVolumes([
      { url: address("ct.nii.gz"), name: "ct.nii.gz", colormap: "gray", cal_min: level - width / 2, cal_max: level + width / 2 },
      { url: address("activation.nii.gz"), name: "activation.nii.gz", colormap: "warm", opacity: 0.2, cal_min: 40, cal_max: 255 },
    ]);
    this.nv.addColormap("densities", DENSITIES);
    this.addDensities = () =>
      this.nv.addVolumeFromUrl({ url: address("densities.nii.gz"), name: "densities.nii.gz", colormap: "densities", opacity: 0.5, cal_min: 0.5, cal_max: 2 });
    const [, nx, ny, nz] = this.nv.volumes[0].dimsRAS;
    const turned = this.nv.volumes[0].permRAS.some((axis, index) => axis !== index + 1);
    if (turned || [nx, ny, nz].some((size, axis) => size !== this.grid.shape[axis])) {
      throw new Error("the viewer turned the volume's axes; painting would land elsewhere");
    }
    this.nv.createEmptyDrawing();
    this.setMask(await readMask(address("lesions.nii.gz"), this.grid.shape));
    this.idShape = [Math.ceil(nx / 2), Math.ceil(ny / 2), nz];
    this.ids = await readMask(address("lesion_ids.nii.gz"), this.idShape).catch((error) => {
      if (error.status === 404) return new Uint8Array(); // read by a version that did not write it
      throw error;
    });
    this.nv.setDrawColormap(LESION);
    this.lesionOpacity = 1;
    this.setLayout("axial");
    this.nv.onLocationChange = () => this.onMove(this.position());
  }

  /** HU of every voxel, x fastest. */
  get hu() {
    return this.nv.volumes[0].img;
  }

  /** mm of a voxel along each axis. */
  get spacing() {
    return [0, 1, 2].map((axis) => Math.hypot(...[0, 1, 2].map((row) => this.grid.affine[row][axis])));
  }

  get mask() {
    return this.nv.drawBitmap;
  }

  setMask(bytes) {
    this.nv.drawBitmap.set(bytes);
    this.nv.refreshDrawing(true);
  }

  refreshMask() {
    this.nv.refreshDrawing(true);
  }

  setLayout(name) {
    this.nv.setSliceType(LAYOUTS[name]);
    this.layout = name;
    this.#drawLesions();
  }

  /** Level and width in HU. */
  setWindow(level, width) {
    const ct = this.nv.volumes[0];
    [ct.cal_min, ct.cal_max] = [level - width / 2, level + width / 2];
    this.nv.refreshLayers(ct, 0); // the overlays stay as they are
    this.nv.drawScene();
  }

  /** Densities are fetched when they are first shown: each layer costs seconds where a browser draws without a GPU. */
  async setOpacity(name, value) {
    if (name === "lesions") {
      this.lesionOpacity = value;
      return this.#drawLesions();
    }
    if (name === "densities") {
      if (!this.densities && !value) return undefined;
      await (this.densities ??= this.addDensities());
    }
    this.nv.volumes[name === "activation" ? 1 : 2].opacity = value;
    this.#redrawOverlays();
    return undefined;
  }

  /** On slices a line; the rendering has no lines, lesions are solid there. */
  #drawLesions() {
    this.nv.drawRimOpacity = this.lesionOpacity;
    this.nv.setDrawOpacity(this.lesionOpacity * (this.layout === "render" ? 0.4 : LESION_FILL));
  }

  /** Once a picture, however often a slider moves; the CT itself is not uploaded again. */
  #redrawOverlays() {
    if (this.redrawing) return;
    this.redrawing = requestAnimationFrame(() => {
      this.redrawing = 0;
      this.nv.volumes.slice(1).forEach((volume, index) => this.nv.refreshLayers(volume, index + 1));
      this.nv.drawScene();
    });
  }

  /** `paint`, `erase`, `look`, `measure` or `move` by the left button or a finger, and the brush in voxels. */
  setTool(tool, brush) {
    const paints = ["paint", "erase"].includes(tool);
    this.nv.opts.penSize = brush;
    const drags = tool === "measure" && !this.grid.is_measurable ? "look" : tool;
    this.nv.opts.dragModePrimary = DRAGS[drags] ?? DRAGS.look;
    this.nv.setDrawingEnabled(paints);
    if (paints) this.nv.setPenValue(tool === "paint" ? 1 : 0, false);
  }

  /** Voxel (x, y, z) under the crosshair, its HU and its place in mm (RAS). */
  position() {
    const voxel = [...this.nv.frac2vox(this.nv.scene.crosshairPos)].map(Math.round);
    const mm = [...this.nv.frac2mm(this.nv.scene.crosshairPos)].slice(0, 3);
    const [nx, ny] = this.grid.shape;
    const inside = voxel.every((value, axis) => value >= 0 && value < this.grid.shape[axis]);
    const hu = inside ? this.hu[voxel[0] + nx * (voxel[1] + ny * voxel[2])] : null;
    return { voxel, mm, hu };
  }

  /** lesion_id at a voxel, as the version that is shown has it; 0 outside. */
  lesionAt([x, y, z]) {
    const [nx, ny] = this.idShape;
    return this.ids[(x >> 1) + nx * ((y >> 1) + ny * z)] ?? 0;
  }

  /** Larger or smaller around the crosshair. */
  zoom(factor) {
    const [x, y, z, before] = this.nv.scene.pan2Dxyzmm;
    const after = Math.max(1, Math.min(12, before * factor));
    const mm = this.nv.frac2mm(this.nv.scene.crosshairPos);
    const moved = [x, y, z].map((value, axis) => (after === 1 ? 0 : value + (before - after) * mm[axis]));
    this.nv.setPan2Dxyzmm([...moved, after]);
  }

  fit() {
    this.nv.setPan2Dxyzmm([0, 0, 0, 1]);
  }

  goTo(voxel) {
    const held = voxel.map((value, axis) => Math.max(0, Math.min(this.grid.shape[axis] - 1, Math.round(value))));
    this.nv.scene.crosshairPos = this.nv.vox2frac(held);
    this.nv.drawScene();
    this.onMove(this.position());
  }

  interpolateSlices() {
    this.nv.interpolateMaskSlices(undefined, undefined, { useIntensityGuided: false, sliceType: 0 });
  }
}

/** The voxel `here`, moved to a slice of the study. */
export function onSlice(grid, slice, here) {
  const viewer = grid.order.indexOf(0);
  const along = slice - grid.first[0];
  return here.map((value, axis) => (axis !== viewer ? value : grid.flipped[viewer] ? grid.shape[viewer] - 1 - along : along));
}

/** Viewer's (x, y, z) -> the study's slice. */
export function sliceOf(grid, voxel) {
  const viewer = grid.order.indexOf(0);
  const along = grid.flipped[viewer] ? grid.shape[viewer] - 1 - voxel[viewer] : voxel[viewer];
  return along + grid.first[0];
}
