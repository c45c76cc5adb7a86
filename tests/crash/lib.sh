# Shared by tests/crash/run and tests/crash/faults: the smallest program that trains, its recorder and its runs.
. "$(dirname "$0")/../e2e/lib.sh"
record=${ink%/*}/crash-record replay=${ink%/*}/crash-replay
work=$(realpath "$work") # the recorder wants plain paths

build_tiny() { # $work/char: a character model of some 1,800 parameters, so that a whole run takes 0.1 s
  make_data
  gives 0 "$ink" build "$root/models/char.yaml" --for train --quiet --batch 2 --seq 8 --set dims.vocab="$vocab" \
    --set dims.d=8 --set dims.layers=1 --set dims.heads=1 --set dims.ctx=8 \
    --set schedule.kind=constant --set schedule.warmup=4 --set lr=3e-3 --set eval.batches=1 -o "$work/char" || finish
}

every=1 keep=2 # checkpoints
train() { # FOLDER STEPS: the words of a run in it
  command=("$work/char" --data "$work/data" --run "$1/runs/a" --steps "$2" --threads 1 --sample 4
    --set checkpoint.every=$every checkpoint.keep=$keep eval.every=5)
}

# kill_after PATTERN FOLDER: the run folder of `whole` as a kill behind the first operation that fits leaves it; $n: its number.
kill_after() {
  "$replay" --list "$work/whole.trace" "$work/whole" >"$work/list"
  n=$(grep "$1" "$work/list" | head -n 1 | cut -d ' ' -f 1)
  mkdir -p "$work/states" "$2"
  gives 0 "$replay" --work "$work/states" --only "${n:?}.0" "$work/whole.trace" "$work/whole"
  cp -R "$work/states/0/." "$2"
}

# recorded OPTIONS... TRACE FOLDER COMMAND...: with its output in $work/out; leaves the exit status in $status.
recorded() {
  "$record" "$@" >"$work/out" 2>&1
  status=$?
  case $status in
    77) cat "$work/out" && exit 77 ;;
    120) cat "$work/out" && fail "not recorded: $*" && finish ;;
  esac
}
