#!/usr/bin/env bash
# Cross-validation as docs/results/ reports it: CT100 by MiniSeg's folds against its published maps, COVID-CT by
# patients, and the matrix across sources. Continues where it was stopped; two CPU cores need about eight hours.
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
[ -f "$work/miniseg.csv" ] || "$jcs" data make ct100 "$data/ct100" -o "$work/miniseg.csv" --folds miniseg
miniseg=$data/ct100/reference_predictions/miniseg
start() { # NAME SEED
  "$jcs" train ct100-start -m "$work/start.csv" -o "$work/$1" --threads "$threads" --set seed="$2"
  "$jcs" train ct100-start-fine -m "$work/start.csv" -o "$work/$1-fine" --threads "$threads" \
    --pretrained "$work/$1/last.safetensors" --set seed="$2"
}
cross() { # FOLDS STAGE SEED START: weights that all folds start from, or a stage's folder, each fold from its own there
  "$jcs" crossval "ct100-folds$2" -m "$work/miniseg.csv" --parted-patients --protocol miniseg -o "$1" --pretrained "$4" \
    --flip-average --threads "$threads" --cut-by-folds --against miniseg="$miniseg" --set seed="$3"
}
stages() { # FOLDS SEED SEED-OF-THE-LONG-STAGE START
  cross "$1" -fine "$2" "$work/$4-fine/last.safetensors"     # 256 x 256
  cross "$1" -last "$2" "$1/ct100-folds-fine"                # 320 x 320, twice
  cross "$1" -long "$3" "$1/ct100-folds-last"
}
first=$work/ct100-miniseg second=$work/ct100-miniseg-2
start ct100-start 0
cross "$first" "" 0 "$work/ct100-start/last.safetensors"     # 192 x 192, once, from a start of its own
stages "$first" 0 1 ct100-start
start ct100-start-2 2                                        # the same again, all draws and first weights anew
stages "$second" 2 3 ct100-start-2
long=ct100-folds-long/predictions
"$jcs" compare miniseg="$miniseg" both="$first/$long+$second/$long" first="$first/$long" second="$second/$long" \
  -r "$data/ct100" --protocol miniseg --cut-by-folds both --cut-by-folds first --cut-by-folds second \
  -o "$work/ct100-compared"

"$jcs" train ucsd-start -m "$work/start.csv" -o "$work/ucsd-start" --threads "$threads"
# Leaks are accepted as in the published run: two slices of one patient are alike to two of another one.
"$jcs" crossval ucsd-folds -m "$sets/ucsd.csv" --source ucsd --folds 5 --with-test --accept-leaks -o "$work/ucsd-folds" \
  --pretrained "$work/ucsd-start/last.safetensors" --threads "$threads"

"$jcs" transfer ucsd-start -m "$sets/slices.csv" --accept-leaks -o "$work/transfer" --threads "$threads" \
  --group figures=ucsd --group slices=ct100+lungs267+painted+phantom \
  --set steps=400 --set coarse_share=1.0 --set validate_every=200
