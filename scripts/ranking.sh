#!/usr/bin/env bash
# Tables V, VI and VII at a budget where the ranking of networks means something: every segmenter alike, from scratch,
# 1 500 steps of batch 8 at 128 x 128, three seeds. Six whole volumes of zenodo20 and CT100's training slices train, a
# seventh volume is watched, the eighth and CT100's other 44 slices judge. Continues where it was stopped; about four
# hours on one CPU core with bf16. PART=K/N does every N-th training from the K-th on, where cores share the work;
# whichever part ends last judges. STEPS=3000 trains for twice as long (in another WORK).
#
#   scripts/ranking.sh DATA CLASSIFIER WORK
#
# DATA holds ct100/ and zenodo20/; CLASSIFIER is a compact classifier that saw no slice of zenodo20 and none of CT100's
# 44, which the joint segmenters borrow (in docs/results: trained without zenodo20 and IQ-OTH/NCCD).
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 3 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
data=$1 classifier=$2 work=$3
jcs=${JCS:-.venv/bin/jcs} python=${PYTHON:-.venv/bin/python}
part=${PART:-0/1} steps=${STEPS:-1500}
mkdir -p "$work"

[ -f "$work/ranking.csv" ] || "$python" - "$data" "$work" <<'PY'
import sys
from dataclasses import replace
from pathlib import Path

from jcs_ct.data.manifest import Manifest
from jcs_ct.data.sources.public_sets import ct100, zenodo20

data, work = map(Path, sys.argv[1:])
places = {"zenodo20-c09": "val", "zenodo20-c10": "test"}
rows = [replace(row, split=places.get(row.patient, "train")) for row in zenodo20(data / "zenodo20")]
rows += [replace(row, split="train" if row.split == "train" else "test") for row in ct100(data / "ct100")]
Manifest(tuple(rows)).write(work / "ranking.csv")
PY

train() { # NAME SETTINGS
  local name=$1; shift
  "$jcs" train ct100-segmenter -m "$work/ranking.csv" -o "$work/$name" --threads 1 --samples 0 \
    --set preprocessing.size=128 --set steps="$steps" --set ema_decay=0.99 "$@"
}
quarter=(--set network.width=0.25 --set network.in_channels=1)
networks=(none efm aff both none-joint efm-joint aff-joint both-joint unet egnet dss poolnet)
number=-1
for seed in 0 1 2; do
  for name in "${networks[@]}"; do
    number=$((number + 1))
    [ $((number % ${part#*/})) -eq "${part%/*}" ] || continue
    case $name in
      none*) own=(--set network.enhanced_features=false --set network.attentive_fusion=false) ;;
      efm*) own=(--set network.enhanced_features=true --set network.attentive_fusion=false) ;;
      aff*) own=(--set network.enhanced_features=false --set network.attentive_fusion=true) ;;
      both*) own=(--set network.enhanced_features=true --set network.attentive_fusion=true) ;;
      unet) own=(--set preset=unet "${quarter[@]}") ;;
      egnet) own=(--set preset=egnet-resnet50-scratch "${quarter[@]}") ;;
      dss) own=(--set preset=dss-vgg16-scratch "${quarter[@]}") ;;
      poolnet) own=(--set preset=poolnet-resnet50-scratch "${quarter[@]}") ;;
    esac
    [[ $name != *-joint ]] || own+=(--set preset=compact-joint --classifier "$classifier")
    train "$name-$seed" --set choose_weights=last --set seed="$seed" "${own[@]}"
  done
done

# The U-Net once more, watched on the seventh volume: is its curve flat by then?
if [ "${part%/*}" = 0 ]; then
  train watched --set validate_every=100 --set preset=unet "${quarter[@]}"
fi

methods=()
for name in "${networks[@]}"; do
  for seed in 0 1 2; do methods+=("$name-$seed=$work/$name-$seed/last.safetensors"); done
done
for method in "${methods[@]}"; do [ -f "${method#*=}" ] || exit 0; done
"$jcs" evaluate segmentation "${methods[@]}" -m "$work/ranking.csv" -o "$work/evaluation"
"$python" scripts/over_seeds.py "$work/evaluation/per_image.csv" -m "$work/ranking.csv" --source ct100 --baseline none
