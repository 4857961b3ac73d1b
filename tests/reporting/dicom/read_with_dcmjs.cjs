// What OHIF's parser reads of a DICOM file, as JSON on stdout: frames with place, segment, weight and centre of what
// they show (LPS mm), or the numbers of an SR.
const fs = require("fs");
const dcmjs = require("dcmjs");
console.log = () => {};
const bytes = fs.readFileSync(process.argv[2]);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
const file = dcmjs.data.DicomMessage.readFile(buffer);
const dataset = dcmjs.data.DicomMetaDictionary.naturalizeDataset(file.dict);
const one = (value) => (Array.isArray(value) ? value[0] : value);
const many = (value) => (value === undefined ? [] : Array.isArray(value) ? value : [value]);
const found = { modality: dataset.Modality, frames: [], numbers: {}, segments: many(dataset.SegmentSequence).length };
const shared = one(dataset.SharedFunctionalGroupsSequence);
const of = (frame, name) => one(frame[name] ?? shared?.[name]);
const size = dataset.Rows * dataset.Columns;
let value = () => 0;
if (dataset.Modality === "SEG") {
  const bits = dcmjs.data.BitArray.unpack(one(dataset.PixelData));
  value = (at) => Math.min(1, bits[at]);
} else if (dataset.FloatPixelData !== undefined) {
  const held = one(dataset.FloatPixelData);
  const floats = held instanceof ArrayBuffer ? new Float32Array(held) : held;
  value = (at) => floats[at];
}
many(dataset.PerFrameFunctionalGroupsSequence).forEach((frame, number) => {
  const segment = one(frame.SegmentIdentificationSequence);
  const position = of(frame, "PlanePositionSequence").ImagePositionPatient.map(Number);
  const cosines = of(frame, "PlaneOrientationSequence").ImageOrientationPatient.map(Number);
  const [rowMm, columnMm] = of(frame, "PixelMeasuresSequence").PixelSpacing.map(Number);
  let weight = 0, rows = 0, columns = 0;
  for (let at = 0; at < size; at++) {
    const here = value(number * size + at);
    weight += here;
    rows += here * Math.floor(at / dataset.Columns);
    columns += here * (at % dataset.Columns);
  }
  const center = position.map(
    (start, axis) => start + (cosines[axis] * columnMm * columns + cosines[3 + axis] * rowMm * rows) / (weight || 1)
  );
  found.frames.push({
    position, weight, center, segment: segment === undefined ? null : Number(segment.ReferencedSegmentNumber),
  });
});
const walk = (items) => {
  for (const item of many(items)) {
    const measured = one(item.MeasuredValueSequence);
    if (measured !== undefined) {
      const name = one(item.ConceptNameCodeSequence).CodeValue;
      (found.numbers[name] ||= []).push(Number(measured.NumericValue));
    }
    walk(item.ContentSequence);
  }
};
walk(dataset.ContentSequence);
process.stdout.write(JSON.stringify(found));
