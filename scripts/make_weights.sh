#!/usr/bin/env bash
# Train the networks that come in the box, from the public data sets to src/jcs_ct/weights; every step continues where
# it was stopped. Two CPU cores need about four hours for all but the long stages, which take minutes on a GPU (DEVICE=cuda,
# WORKERS=4) and about a day without. Those in the box were trained on copies shrunk to 320 rows or columns, see docs/results.md.
#
#   scripts/make_weights.sh DATA WORK
#
# DATA holds ct100/, ucsd/, lungs267/, zenodo20/, sarscov2/, iq_othnccd/ and pneumonia224/ as they are handed out
# (docs/how-to/train.md); WORK gets phantoms, painted slices, the manifests (scripts/weights_manifests.py), the runs and
# the calibrated models.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
data=$1 work=$2
jcs=${JCS:-.venv/bin/jcs} python=${PYTHON:-.venv/bin/python}
mkdir -p "$work"

[ -f "$work/phantoms/READY" ] || "$python" scripts/make_phantom_set.py "$work/phantoms" --studies 100 --workers 2
for source in ct100 ucsd lungs267; do
  [ -f "$work/$source.csv" ] || "$jcs" data make "$source" "$data/$source" -o "$work/$source.csv"
done
[ -f "$work/phantom.csv" ] || "$jcs" data make phantom "$work/phantoms" -o "$work/phantom.csv"
[ -f "$work/painted.csv" ] || "$jcs" data paint "$work/lungs267.csv" -f "$work/painted" -o "$work/painted.csv"
[ -f "$work/slices.csv" ] ||
  "$jcs" data join "$work"/{ct100,ucsd,lungs267,painted,phantom}.csv -o "$work/slices.csv"
[ -f "$work/scans.csv" ] || "$jcs" data join "$work"/{ct100,lungs267,painted}.csv -o "$work/scans.csv"
"$jcs" data check "$work/slices.csv"

"$jcs" train compact-classifier -m "$work/slices.csv" -o "$work/classifier"
"$jcs" train compact-classifier-finetune -m "$work/slices.csv" -o "$work/classifier-finetune" \
  --pretrained "$work/classifier/best.safetensors"
"$jcs" train compact-classifier-finish -m "$work/slices.csv" -o "$work/classifier-finish" \
  --pretrained "$work/classifier-finetune/best.safetensors"
"$jcs" train compact-joint -m "$work/slices.csv" -o "$work/segmenter" \
  --classifier "$work/classifier/best.safetensors"
"$jcs" train compact-joint-finish -m "$work/slices.csv" -o "$work/segmenter-finish" \
  --pretrained "$work/segmenter/best.safetensors" --classifier "$work/classifier-finish/best.safetensors"
"$jcs" train compact-joint-last -m "$work/scans.csv" -o "$work/segmenter-last" \
  --pretrained "$work/segmenter-finish/best.safetensors" --classifier "$work/classifier-finish/best.safetensors"

# The long stages, on every source.
for source in zenodo20 sarscov2 iq-othnccd pneumonia224; do
  [ -f "$work/$source.csv" ] || "$jcs" data make "$source" "$data/${source/-/_}" -o "$work/$source.csv"
done
"$python" scripts/weights_manifests.py "$work"
on=(--device "${DEVICE:-auto}" --workers "${WORKERS:-0}")
"$jcs" train compact-joint-hundred -m "$work/volumes.csv" -o "$work/segmenter-hundred" "${on[@]}" --set steps=1800 \
  --pretrained "$work/segmenter-last/last.safetensors" --classifier "$work/classifier-finish/best.safetensors"

# The classifier's trunk never hears a label of sarscov2, whose look it would learn: it sees those slices under the
# segmenter's encoder alone, and the head is fitted to every source afterwards.
"$jcs" train compact-classifier-hundred -m "$work/others.csv" -o "$work/classifier-hundred" "${on[@]}" --set steps=1250
"$jcs" train compact-classifier-taught -m "$work/taught.csv" -o "$work/classifier-taught" "${on[@]}" \
  --pretrained "$work/classifier-hundred/last.safetensors" --teacher "$work/segmenter-hundred/last.safetensors"
"$python" scripts/refit_head.py "$work/classifier-taught/last.safetensors" -m "$work/sources.csv" \
  -o "$work/classifier.safetensors" --keep-maps --regularisation 0.1
"$jcs" calibrate --classifier "$work/classifier.safetensors" --segmenter "$work/segmenter-hundred/last.safetensors" \
  -m "$work/sources.csv" -o "$work/models" --lesion-probability 0.4
for task in classifier segmenter; do
  cp "$work/models/$task.safetensors" "src/jcs_ct/weights/compact-$task.safetensors"
done
echo "src/jcs_ct/weights is new: measure it with scripts/held_out.py and write the model card"
