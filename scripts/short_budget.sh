#!/usr/bin/env bash
# The ablation, the comparison of networks and the explanations on CT100, each network with the same small budget: that
# the commands run end to end on real slices, not what the networks are worth. Continues where it was stopped; about
# four hours on one CPU core.
#
#   scripts/short_budget.sh DATA MANIFEST WORK
#
# DATA holds ct100/; MANIFEST is the joined slices.csv of scripts/make_weights.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
data=$1 manifest=$2 work=$3
jcs=${JCS:-.venv/bin/jcs} python=${PYTHON:-.venv/bin/python}
threads=${THREADS:-1}
mkdir -p "$work"

# Fig. 9: one classifier without mixing, one with, one with mixing and pixel labels, 600 steps of batch 16 at 144 x 144
for variant in "plain 0 0" "mixing 0.5 0" "lseg 0.5 1"; do
  read -r name alpha weight <<<"$variant"
  "$jcs" train compact-classifier -m "$manifest" -o "$work/classifier-$name" --threads "$threads" \
    --set preprocessing.size=144 --set coarse_size=0 --set steps=600 --set validate_every=200 \
    --set mixup_alpha="$alpha" --set activation_map_weight="$weight"
done
[ -f "$work/ct100.csv" ] || "$jcs" data make ct100 "$data/ct100" -o "$work/ct100.csv"
"$jcs" evaluate explanations plain="$work/classifier-plain/best.safetensors" \
  mixing="$work/classifier-mixing/best.safetensors" lseg="$work/classifier-lseg/best.safetensors" \
  -m "$work/ct100.csv" -o "$work/explanations"

# Tables V to VII: 200 steps of batch 8 at 128 x 128, five patient-safe folds, the last step's weights
alike=(--set preprocessing.size=128 --set steps=200 --set choose_weights=last --set optimiser.warmup_steps=20
  --set ema_decay=0.97)

[ -f "$work/folds.csv" ] || "$jcs" data make ct100 "$data/ct100" -o "$work/folds.csv" --folds patient-safe

# Tables V and VI: EFM x AFF x combination; a classifier of as many steps for every fold's combination
[ -f "$work/extra.csv" ] || "$python" - "$manifest" "$work/extra.csv" <<'PY'
import sys
from pathlib import Path

from jcs_ct.data.manifest import Manifest, read_manifest

rows = [row for row in read_manifest(Path(sys.argv[1])) if row.source in ("ucsd", "lungs267") and row.split != "test"]
Manifest(tuple(rows)).write(Path(sys.argv[2]))
PY
"$jcs" ablate ct100-segmenter -m "$work/folds.csv" -o "$work/ablation" --extra "$work/extra.csv" "${alike[@]}" \
  --set balance=label --set infected_share=1 --classifier-recipe compact-classifier \
  "${alike[@]/--set/--set-classifier}" --set-classifier coarse_size=0 --threads "$threads"

# Table VII: every network; "EFM + AFF" above is "compact" here
"$jcs" crossval ct100-segmenter -m "$work/folds.csv" -o "$work/networks" \
  --network compact --network unet --network dss-vgg16-scratch --network poolnet-resnet50-scratch \
  --network egnet-resnet50-scratch --width 0.25 "${alike[@]}" --threads "$threads"
