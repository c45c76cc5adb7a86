# Shared by the tests of this folder: run from the project's root by ctest, or by hand. Sourced, not run.
# Each check prints one line; a test ends with `finish`.
ink=${INK:-build/bin/ink}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
failed=0

fail() {
  echo "FAIL  $*"
  [ -s "$work/out" ] && sed 's/^/      /' "$work/out" | head -n 30
  failed=1
}

# gives STATUS COMMAND...: its exit status must be that; its output goes to $work/out.
gives() {
  local want=$1 got=0
  shift
  "$@" >"$work/out" 2>&1 || got=$?
  if [ $got = "$want" ]; then echo "ok    $* ($got)"; else
    fail "$*: exit status $got, not $want"
    return 1
  fi
}

# says TEXT...: the output of the last command contains each of them.
says() {
  local t
  for t in "$@"; do grep -qF -- "$t" "$work/out" || fail "it does not say: $t"; done
}

finish() { exit $failed; }
