#!/usr/bin/env bash
# The key-value store of the examples: dumps of snapshots hold exactly what the store held at their
# moment, while threads go on writing under half memory; a dump without a snapshot does not, and the
# check finds that.
set -uo pipefail

kvstore=${QUIRE_BUILD:?}/examples/kvstore
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() {
  echo "FAIL: $*" >&2
  cat "$work/out" "$work/err" >&2
  failed=1
}

run() {
  timeout 120 "$kvstore" --store 32 "$@" "$work/dump" >"$work/out" 2>"$work/err"
}

if ! run --dumps 3; then
  if grep -q 'quire_map: Operation not supported' "$work/err"; then
    echo 'SKIP: no shareable memory on this system'
    exit 77
  fi
  fail 'dumps of snapshots'
fi
[ "$(grep -c '^dump [123]: snapshot .*; verified: [1-9][0-9]* keys$' "$work/out")" = 3 ] ||
  fail 'not three verified dumps'
grep -Eq ' [1-9][0-9]* copied on write$' "$work/out" ||
  fail 'no page was ever shared with a snapshot'
[ ! -s "$work/err" ] || fail 'messages'
cat "$work/out"

# Reading the store while it is written is a race by intention.
if [ "${QUIRE_SANITIZE:-}" != thread ]; then
  run --dumps 1 --torn || fail 'a torn dump was not found torn'
  grep -q '^dump 1: no snapshot .*; torn: ' "$work/out" || fail 'no torn dump'
fi

for args in '--store 1' '--threads 0' '--dumps x' '--nothing' '--store'; do
  status=0
  # shellcheck disable=SC2086
  "$kvstore" $args >"$work/out" 2>"$work/err" || status=$?
  [ "$status" = 2 ] || fail "$args: exit status $status, not 2"
done
[ ! -e "$work/dump" ] || fail 'a dump is left behind'
if [ "$failed" = 0 ]; then echo 'kvstore: all well'; fi
exit "$failed"
