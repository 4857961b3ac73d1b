#!/usr/bin/env bash
# Cross-validation as docs/results.md reports it: CT100 by MiniSeg's folds against its published maps, COVID-CT by
# patients, and the matrix across sources. Continues where it was stopped; two CPU cores need about six hours.
#
#   scripts/crossval.sh DATA SETS WORK
#
# DATA holds ct100/ (with reference_predictions/miniseg); SETS holds the manifests that scripts/make_weights.sh made there.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -eq 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
data=$1 sets=$2 work=$3
jcs=${JCS:-.venv/bin/jcs} threads=${THREADS:-2}
mkdir -p "$work"

# What the folds start from has seen no judged slice: phantoms, uninfected slices, and lesions painted into those.
[ -f "$work/start.csv" ] || "$jcs" data join "$sets"/{lungs267,painted,phantom}.csv -o "$work/start.csv"
"$jcs" train recipes/ct100-start.yaml -m "$work/start.csv" -o "$work/ct100-start" --threads "$threads"
"$jcs" train recipes/ct100-start-fine.yaml -m "$work/start.csv" -o "$work/ct100-start-fine" --threads "$threads" \
  --pretrained "$work/ct100-start/last.safetensors"
folds=$work/ct100-miniseg miniseg=$data/ct100/reference_predictions/miniseg
cross() { # STAGE START: weights that all folds start from, or a stage's folder, of which each fold goes on from its own
  "$jcs" crossval "recipes/ct100-folds$1.yaml" -d "$data/ct100" --protocol miniseg -o "$folds" --pretrained "$2" \
    --flip-average --threads "$threads" --cut-by-folds --against miniseg="$miniseg"
}
cross "" "$work/ct100-start/last.safetensors"              # 192 x 192, once, from a start of its own
cross -fine "$work/ct100-start-fine/last.safetensors"      # 256 x 256
cross -last "$folds/ct100-folds-fine"                      # 320 x 320, twice
cross -long "$folds/ct100-folds-last"
of() { echo "$folds/ct100-folds$1/predictions"; }
"$jcs" compare miniseg="$miniseg" long="$(of -long)" last="$(of -last)" fine="$(of -fine)" coarse="$(of "")" \
  -r "$data/ct100" --protocol miniseg --cut-by-folds long -o "$work/ct100-compared"

"$jcs" train recipes/ucsd-start.yaml -m "$work/start.csv" -o "$work/ucsd-start" --threads "$threads"
"$jcs" crossval-classifier recipes/ucsd-folds.yaml -m "$sets/ucsd.csv" --source ucsd --with-test -o "$work/ucsd-folds" \
  --pretrained "$work/ucsd-start/last.safetensors" --threads "$threads"

"$jcs" transfer recipes/ucsd-start.yaml -m "$sets/slices.csv" -o "$work/transfer" --threads "$threads" \
  --group figures=ucsd --group slices=ct100+lungs267+painted+phantom \
  --set steps=400 --set coarse_share=1.0 --set validate_every=200
