// What other cuts and thresholds would have said of the validation patients that the operating point was chosen on.

/** Validation patients with fewer slices say nothing of the patient rule (the page withholds a verdict there, too). */
const LEAST_SLICES = 6;

const at = (probabilities, cut) => probabilities.filter((probability) => probability >= cut).length;
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Share of slices at or above the cut, or below it, every source counted alike; null without such slices. */
function share(patients, kind, cut, above) {
  const sources = new Map();
  for (const patient of patients) {
    const of = sources.get(patient.source) ?? { found: 0, all: 0 };
    const found = at(patient[kind], cut);
    of.found += above ? found : patient[kind].length - found;
    of.all += patient[kind].length;
    sources.set(patient.source, of);
  }
  const shares = [...sources.values()].filter((of) => of.all).map((of) => of.found / of.all);
  return shares.length ? mean(shares) : null;
}

/**
 * Sensitivity and specificity on validation patients.
 *
 * @param patients [{source, infected: [probability], uninfected: [probability]}]
 * @param cut a slice is infected from this probability on
 * @param slices share of a patient's slices above which the patient is positive
 */
export function onValidation(patients, cut, slices) {
  const whole = patients.filter((patient) => patient.infected.length + patient.uninfected.length >= LEAST_SLICES);
  const isFound = (patient) => at(patient.infected, cut) + at(patient.uninfected, cut) > slices * (patient.infected.length + patient.uninfected.length);
  const [ill, well] = [whole.filter((patient) => patient.infected.length), whole.filter((patient) => !patient.infected.length)];
  return {
    sensitivity: share(patients, "infected", cut, true),
    specificity: share(patients, "uninfected", cut, false),
    slices: patients.reduce((sum, patient) => sum + patient.infected.length + patient.uninfected.length, 0),
    ill: ill.length,
    found: ill.filter(isFound).length,
    well: well.length,
    spared: well.filter((patient) => !isFound(patient)).length,
  };
}

const percent = (value) => (value === null ? "not known" : `${(100 * value).toFixed(0)} %`);

/** The same in words; "" without validation patients. */
export function inWords(patients, cut, threshold, lungSlices) {
  if (!patients.length) return "";
  const part = threshold / Math.max(1, lungSlices);
  const found = onValidation(patients, cut, part);
  const bySlice = `On ${found.slices} validation slices, sources counted alike: sensitivity ${percent(found.sensitivity)}, specificity ${percent(found.specificity)} per slice.`;
  if (!found.ill && !found.well) return `${bySlice} No validation patient has ${LEAST_SLICES} slices, so nothing is known about the patient rule.`;
  return `${bySlice} More than ${(100 * part).toFixed(0)} % of the slices: ${found.found} of ${found.ill} infected and ${found.spared} of ${found.well} other validation patients classified correctly.`;
}
