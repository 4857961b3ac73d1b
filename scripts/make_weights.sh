#!/usr/bin/env bash
# Train the networks that come in the box, from the public data sets to src/jcs_ct/weights; every step continues where
# it was stopped. Two CPU cores need about four hours.
#
#   scripts/make_weights.sh DATA WORK
#
# DATA holds ct100/, ucsd/ and lungs267/ as they are handed out (docs/how-to/train.md); WORK gets phantoms, painted
# slices, the manifest, both runs and the calibrated models.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
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

"$jcs" train recipes/compact-classifier.yaml -m "$work/slices.csv" -o "$work/classifier"
"$jcs" train recipes/compact-classifier-finetune.yaml -m "$work/slices.csv" -o "$work/classifier-finetune" \
  --pretrained "$work/classifier/best.safetensors"
"$jcs" train recipes/compact-classifier-finish.yaml -m "$work/slices.csv" -o "$work/classifier-finish" \
  --pretrained "$work/classifier-finetune/best.safetensors"
"$jcs" train recipes/compact-joint.yaml -m "$work/slices.csv" -o "$work/segmenter" \
  --classifier "$work/classifier/best.safetensors"
"$jcs" train recipes/compact-joint-finish.yaml -m "$work/slices.csv" -o "$work/segmenter-finish" \
  --pretrained "$work/segmenter/best.safetensors" --classifier "$work/classifier-finish/best.safetensors"
"$jcs" train recipes/compact-joint-last.yaml -m "$work/scans.csv" -o "$work/segmenter-last" \
  --pretrained "$work/segmenter-finish/best.safetensors" --classifier "$work/classifier-finish/best.safetensors"
"$jcs" calibrate --classifier "$work/classifier-finish/best.safetensors" \
  --segmenter "$work/segmenter-last/last.safetensors" \
  -m "$work/slices.csv" -o "$work/models"
for task in classifier segmenter; do
  cp "$work/models/$task.safetensors" "src/jcs_ct/weights/compact-$task.safetensors"
done
echo "src/jcs_ct/weights is new: measure it with scripts/held_out.py and write the model card"
