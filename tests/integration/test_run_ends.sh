#!/usr/bin/env bash
# How programs end, and what is left of them: exit codes, signals, crashes, kill -9, interrupts.
. "$(dirname "$0")/lib_run.sh"

for how in exit _exit abort term null hole protected ignored blocked bus sys thread thread-exit \
	handled illegal; do
	same "crash $how" 2M /dev/null "$programs/crash" $how
done

# A report, and nothing else, comes to standard error; --quiet leaves even that out.
"$quire" run --ram 2M "$programs/crash" exit 2>"$work/err"
grep -q '^quire: exit status 42 ' "$work/err" || fail "no report"
"$quire" run --ram 2M --quiet "$programs/crash" exit 2>"$work/err"
[ -s "$work/err" ] && fail "--quiet wrote: $(cat "$work/err")"

# Kill -9 and an interrupt: the process is gone, and so are its file and its children.
stop() {
	local signal=$1 want=$2 pid status
	mkdir "$work/swap"
	"$quire" run --quiet --ram 2M --swap "file:$work/swap/file:64M" -- \
		python3 -c 'import time
b = bytearray(8 << 20)
for i in range(0, len(b), 4096): b[i] = 1
print("ready", flush=True)
time.sleep(60)' >"$work/ready" 2>"$work/err" &
	pid=$!
	for _ in $(seq 600); do # a busy machine
		grep -q ready "$work/ready" && break
		sleep 0.1
	done
	grep -q ready "$work/ready" || fail "$signal: the program did not start: $(cat "$work/err")"
	kill "-$signal" $pid
	wait $pid
	status=$?
	[ $status = "$want" ] || fail "$signal: exit status $status, expected $want"
	[ -z "$(ls "$work/swap")" ] || fail "$signal left files: $(ls "$work/swap")"
	kill -0 $pid 2>/dev/null && fail "$signal left the process"
	rm -rf "$work/swap"
	echo "ok: $signal"
}
stop KILL 137
stop TERM 143

# An interrupt reaches the program's own handler.
timeout 20 "$quire" run --quiet --ram 4M -- python3 -c 'import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")' >"$work/out" 2>&1
grep -q '^interrupted$' "$work/out" || fail "SIGINT: $(cat "$work/out")"
finish
