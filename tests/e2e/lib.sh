# Shared by the scripts of tests/e2e. They build training programs with `ink build` and judge them from outside.
# INK names the command (build/bin/ink); everything written lies in $work, which is removed at the end.
root=$(cd "$(dirname "$0")/../.." && pwd)
ink=${INK:-$root/build/bin/ink}
case $ink in /*) ;; *) ink=$PWD/$ink ;; esac
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' INT TERM
failed=0 passed=0
[ -x "$ink" ] || { echo "no program at $ink"; exit 1; }

ok() { passed=$((passed + 1)); }
fail() {
  echo "FAIL  $*"
  failed=$((failed + 1))
}

# gives STATUS COMMAND...: runs it with both outputs in $work/out; any other exit status is a failure, a signal too.
gives() {
  want=$1
  shift
  "$@" >"$work/out" 2>&1
  got=$?
  if [ $got = "$want" ]; then ok; else
    fail "exit status $got, not $want: $*"
    tail -n 12 "$work/out" | sed 's/^/      /'
    return 1
  fi
}

# says TEXT...: the last output has each of them.
says() {
  for text in "$@"; do
    if grep -qF -e "$text" "$work/out"; then ok; else
      fail "not said: $text"
      tail -n 12 "$work/out" | sed 's/^/      /'
    fi
  done
}

# same WHAT FILE FILE: byte for byte.
same() { if cmp "$2" "$3" >"$work/cmp" 2>&1; then ok; else fail "$1: $(cat "$work/cmp")"; fi; }

# alike WHAT RUN RUN: the numbers of every line of metrics.jsonl (nine digits: the bits of an f32), without its times.
numbers() { sed 's/, "tokens_per_s".*//' "$1/metrics.jsonl"; }
alike() {
  numbers "$2" >"$work/numbers.a"
  numbers "$3" >"$work/numbers.b"
  if [ -s "$work/numbers.a" ]; then ok; else fail "$1: $2 has no metrics"; fi
  same "$1: metrics" "$work/numbers.a" "$work/numbers.b"
}

# same_checkpoint WHAT RUN RUN STEP: every file of the checkpoint.
same_checkpoint() {
  if [ "$(ls "$2/checkpoints/step-$4")" = "$(ls "$3/checkpoints/step-$4")" ]; then ok; else fail "$1: other files in step-$4"; fi
  for f in "$2/checkpoints/step-$4"/*; do same "$1" "$f" "$3/checkpoints/step-$4/${f##*/}"; done
}

# The text that models learn here: the project's own documentation, by characters.
make_data() {
  cat "$root"/docs/*.md >"$work/text.txt"
  gives 0 "$ink" data prepare "$work/text.txt" --out "$work/data" --tokenizer char || finish
  vocab=$(sed -n 's/.*"vocab_size": *\([0-9]*\).*/\1/p' "$work/data/meta.json")
}

# build_char FILE OPTIONS...: a small character model for that text.
build_char() {
  file=$1
  shift
  gives 0 "$ink" build "$root/models/char.yaml" --for train --quiet --batch 4 --seq 32 --set dims.vocab="$vocab" \
    --set dims.d=32 --set dims.layers=2 --set dims.heads=2 --set dims.ctx=32 \
    --set schedule.kind=constant --set schedule.warmup=4 --set lr=3e-3 --set eval.batches=2 -o "$file" "$@"
}

# idx FOLDER IMAGES: labels i mod 3, and images of 4 x 4 pixels whose row `label` is bright.
idx() {
  mkdir -p "$1"
  awk -v n="$2" 'BEGIN {
    printf "\\000\\000\\010\\003\\000\\000\\000\\%03o\\000\\000\\000\\004\\000\\000\\000\\004", n
    for (i = 0; i < n; i++) for (p = 0; p < 16; p++) printf "\\%03o", int(p / 4) == i % 3 ? 200 + (i * 7 + p) % 50 : (i * 5 + p * 3) % 40
  }' >"$work/octal"
  # shellcheck disable=SC2059
  printf "$(cat "$work/octal")" >"$1/train-images-idx3-ubyte"
  awk -v n="$2" 'BEGIN { printf "\\000\\000\\010\\001\\000\\000\\000\\%03o", n; for (i = 0; i < n; i++) printf "\\%03o", i % 3 }' >"$work/octal"
  # shellcheck disable=SC2059
  printf "$(cat "$work/octal")" >"$1/train-labels-idx1-ubyte"
  cp "$1/train-images-idx3-ubyte" "$1/t10k-images-idx3-ubyte"
  cp "$1/train-labels-idx1-ubyte" "$1/t10k-labels-idx1-ubyte"
}

finish() {
  echo "$passed checks passed, $failed failed"
  [ "$failed" = 0 ]
  exit
}
