// What OHIF's parser reads of a DICOM file, as JSON on stdout: frames with place and segment, or the numbers of an SR.
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
for (const frame of many(dataset.PerFrameFunctionalGroupsSequence)) {
  const segment = one(frame.SegmentIdentificationSequence);
  found.frames.push({
    position: one(frame.PlanePositionSequence).ImagePositionPatient.map(Number),
    segment: segment === undefined ? null : Number(segment.ReferencedSegmentNumber),
  });
}
const pixels = one(dataset.PixelData);
if (dataset.Modality === "SEG") {
  const bits = new Uint8Array(pixels);
  const size = dataset.Rows * dataset.Columns;
  found.counts = found.frames.map((_, number) => {
    let count = 0;
    for (let at = number * size; at < (number + 1) * size; at++) count += (bits[at >> 3] >> (at & 7)) & 1;
    return count;
  });
}
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
