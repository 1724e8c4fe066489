#!/usr/bin/env bash
# The command line: bad input is one line and the documented status; reports have what scripts need.
. "$(dirname "$0")/lib_run.sh"

# bad STATUS WORD ARGUMENT...: one line on standard error that contains WORD.
bad() {
	local want=$1 word=$2 status
	shift 2
	"$quire" "$@" >"$work/out" 2>"$work/err" </dev/null
	status=$?
	[ $status = "$want" ] || fail "quire $*: exit status $status, expected $want"
	[ "$(wc -l <"$work/err")" = 1 ] || fail "quire $*: not one line: $(cat "$work/err")"
	grep -qF -- "$word" "$work/err" || fail "quire $*: '$word' is not named: $(cat "$work/err")"
	[ -s "$work/out" ] && fail "quire $*: wrote to standard output"
}
bad 2 "'0'" run --ram 0 true
bad 2 "'12Q'" run --ram 12Q true
bad 2 "'-5'" run --ram -5 true
bad 2 "'1.5G'" run --ram=1.5G true
bad 2 "too large" run --ram 99999999999999999999 true
bad 2 "too large" run --ram 999999999999G true
bad 2 "needs a value" run --ram
bad 2 "'--fast'" run --fast true
bad 2 "no program" run --ram 1M --
bad 2 "'zip'" run --swap zip true
bad 2 "'12Q'" run --swap lz4:12Q true
bad 2 "empty store" run --swap lz4,,zstd true
bad 2 "no path" run --swap file: true
bad 2 "/nonexistent/file" run --swap file:/nonexistent/file:1M true
bad 2 "directory" run --swap "file:$work" true
bad 2 "one --node" run --node fast=4M true
bad 2 "'fast'" run --node fast true
bad 2 "'1M'" run --node fast=1M --node slow=4M true
bad 2 "'x y=4M'" run --node "x y=4M" true
bad 2 "same" run --node same=4M --node same=8M true
bad 2 "numa=N" run --node fast=4M:numa --node slow=8M true
bad 2 "'best'" run --node fast=4M --node slow=8M --placement best true
bad 2 "--placement" run --placement random true
bad 2 "'quick'" run --node fast=4M --node slow=8M --promote quick true
bad 2 "/nonexistent/out" run --json /nonexistent/out true
bad 127 "no-such-program-here" run no-such-program-here
bad 127 "$work/none" run "$work/none"
: >"$work/plain"
bad 126 "$work/plain" run "$work/plain"
bad 126 "$work" run "$work"
bad 2 "'fly'" fly
bad 2 "'extra'" info extra
printf '#!/nonexistent/interpreter\n' >"$work/script"
chmod 755 "$work/script"
bad 126 "$work/script" run "$work/script"
printf 'int main(void) { return 0; }\n' >"$work/static.c"
if ${CC:-cc} -static -o "$work/static" "$work/static.c" 2>/dev/null; then
	bad 2 "statically linked" run "$work/static"
fi

printf '#!/bin/sh\nexit 5\n' >"$work/script"
"$quire" run --quiet "$work/script"
[ $? = 5 ] || fail "a script"
printf 'exit 6\n' >"$work/script"
"$quire" run --quiet "$work/script"
[ $? = 6 ] || fail "a script without an interpreter line"
"$quire" run --quiet -- sh -c 'exit 7'
[ $? = 7 ] || fail "the exit status of a shell"
for help in --help "run --help" "info --help"; do
	# shellcheck disable=SC2086
	"$quire" $help >"$work/out" || fail "$help: exit status $?"
	grep -q usage "$work/out" || fail "$help says nothing"
done
"$quire" --version | grep -Eq '^quire [0-9]+\.[0-9]+' || fail "--version"

# The environment of the program is what it would be natively.
env | grep -v '^_=' | sort >"$work/a"
"$quire" run --quiet env | grep -v '^_=' | sort >"$work/b"
cmp -s "$work/a" "$work/b" || fail "the environment differs: $(diff "$work/a" "$work/b")"

# The JSON report.
(cd "$work" && "$quire" run --quiet --ram 4M --json report.json -- python3 -c '
b = bytearray(16 << 20)
for i in range(0, len(b), 4096): b[i] = i // 4096 % 256
raise SystemExit(3)')
[ $? = 3 ] || fail "exit status with --json"
for key in exit_status wall_seconds ram_limit_bytes resident_peak_bytes resident_bytes \
	managed_peak_bytes faults_minor faults_major faults_cow swap_out_pages swap_in_pages \
	swap_stored_bytes migrated_pages tlb_flushes tlb_flushed_pages splits_refused; do
	[ -n "$(number $key "$work/report.json")" ] || fail "the report has no $key"
done
python3 -c 'import json, sys
r = json.load(open(sys.argv[1]))
assert r["exit_status"] == 3
assert r["ram_limit_bytes"] == 4 << 20
assert r["managed_peak_bytes"] >= 16 << 20
assert r["swap_out_pages"] > 0
assert r["resident_peak_bytes"] <= (4 << 20) + r["over_limit_pages"] * 4096' \
	"$work/report.json" || fail "the report: $(cat "$work/report.json")"

# Every store, alone and in a chain.
for swap in lz4 zstd lz4:1M,zstd "file:$work/swapfile:128M" "lz4:1M,file:$work/swapfile"; do
	"$quire" run --quiet --ram 2M --swap "$swap" -- python3 -c '
import random
r = random.Random(1)
b = [r.randbytes(50000) + bytes(50000) for _ in range(120)]
print(hash(tuple(map(sum, b))))' >"$work/out.$RANDOM" || fail "--swap $swap: exit status $?"
	[ -e "$work/swapfile" ] && fail "--swap $swap left its file"
done
[ "$(cat "$work"/out.* | sort -u | wc -l)" = 1 ] || fail "the stores gave different results"
finish
