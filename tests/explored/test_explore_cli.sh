#!/usr/bin/env bash
# The command line of `quire explore`: bad input, the table, traces, JSON, files that replay.
. "$(dirname "$0")/lib_explore.sh"

# A small scenario that has a switch.
one="unmap_store --kind hw"
off="$one --off FLUSH_BEFORE_FREE"

bad "'nothing'" nothing
bad "'--fast'" --fast
bad "'NOTHING'" --off NOTHING
bad "needs a value" --off
bad "'magic'" --engine magic
bad "'vax'" --kind vax
bad "'x'" --bound x
bad "'-1'" --bound -1
bad "'0'" --jobs 0
bad "'99999999999999999999'" --seconds 99999999999999999999
bad "dpor" --engine dpor --bound 2
bad "sleep" --engine=sleep --bound=2
bad "random" --engine random --bound 2
bad "--seed" --seed 1
bad "--runs" --runs 5
bad "'0'" --runs 0
bad "/nonexistent/page" $one --html /nonexistent/page
bad "/nonexistent/file" $one --save /nonexistent/file
bad "/nonexistent/file" --replay /nonexistent/file
bad "--replay" --replay /dev/null unmap_store
bad "--replay" --replay /dev/null --save "$work/x"
bad "not a replay file" --replay /dev/null
bad "no scenario is left" unmap_device --kind home

run 0 --help && has "usage: quire explore" "$work/out"
run 0 --list && has "unmap_store" "$work/out"
has "FLUSH_BEFORE_FREE" "$work/out"
run 0 --list --json && python3 -m json.tool "$work/out" >/dev/null || fail "--list --json"

# With everything on: exhausted, what that promises, and nothing on standard error.
run 0 $one && has "unmap_store +hw +[0-9]+ +[0-9]+ +[0-9]+ +[0-9.]+ +exhausted" "$work/out"
has "sequentially consistent core" "$work/out"
has "TLB model" "$work/out"
[ -s "$work/err" ] && fail "standard error: $(cat "$work/err")"
grep -q $'\033' "$work/out" && fail "colours in a pipe"

# Rows come in the listed order, whatever ends first.
run 0 unmap_store unmap_device protect_store --jobs 3
"$quire" explore unmap_store unmap_device protect_store --jobs 1 >"$work/serial"
awk '/^(un|pro)/ { print $1, $2 }' "$work/out" >"$work/a"
awk '/^(un|pro)/ { print $1, $2 }' "$work/serial" >"$work/b"
cmp -s "$work/a" "$work/b" || fail "rows: $(cat "$work/a")"
cut -d" " -f1 "$work/a" | sort -c || fail "rows are not in the order of names"

# A sample is never an exhaustion.
run 3 $one --engine random --runs 20 --seed 7 && has "sampled: nothing found" "$work/out"
has "20 runs each, seed 7" "$work/out"
run 0 $one --bound none && has " exhausted$" "$work/out"
run 0 $one --bound 1 && has "exhausted with at most 1 preemption$" "$work/out"

# A worker that cannot work is not an exhausted scenario.
(
	ulimit -v 300000
	run 3 $one && has "LOST: " "$work/out"
	exit $failed
) || failed=1

# A violation: the table, a trace with the columns of both, and the message last.
run 1 $off --save "$work/saved" --html "$work/page.html" && has "VIOLATION: " "$work/out"
has "munmap +user +what changes" "$work/out"
has "CPU0 +CPU1" "$work/out"
has "releases frame" "$work/out"
has "entry 0x40000000: frame .* none|RWAD -> none" "$work/out"
awk 'length > 100 && !/VIOLATION/' "$work/out" >"$work/wide"
[ -s "$work/wide" ] && fail "wider than 100 columns: $(cat "$work/wide")"
message=$(sed -n 's/^message //p' "$work/saved")
[ -n "$message" ] || fail "no message in the replay file"
tail -n 2 "$work/out" | grep -qF "VIOLATION: $message" || fail "the message is not last"
grep -q "</html>" "$work/page.html" || fail "the page is not whole"

# It replays, twice the same; and not where the program is another one.
run 1 --replay "$work/saved" && has "VIOLATION" "$work/out"
cp "$work/out" "$work/first"
run 1 --replay "$work/saved"
cmp -s "$work/out" "$work/first" || fail "two replays differ"
sed 's/^off .*//;/^$/d' "$work/saved" >"$work/other"
bad "differs" --replay "$work/other"
# The last figure of each fingerprint, turned round.
sed -E '/^(run|choose) /{s/[0-7]$/f/;t;s/[89a-f]$/0/}' "$work/saved" >"$work/other"
bad "differs" --replay "$work/other"
sed 's/^quire explore replay 1/quire explore replay 9/' "$work/saved" >"$work/other"
bad "version" --replay "$work/other"
sed 's/^scenario .*/scenario nothing/' "$work/saved" >"$work/other"
bad "'nothing'" --replay "$work/other"
grep -v '^end' "$work/saved" >"$work/other"
bad "not complete" --replay "$work/other"
sed 's/^run .*/run 99 to nowhere 12/' "$work/saved" >"$work/other"
bad "not a decision" --replay "$work/other"

# A folder gets a file for each violation.
mkdir "$work/all"
run 1 unmap_store --off FLUSH_BEFORE_FREE --save "$work/all"
[ -e "$work/all/unmap_store.hw.replay" ] || fail "no file for hw: $(ls "$work/all")"
[ -e "$work/all/unmap_store.sw.replay" ] || fail "no file for sw: $(ls "$work/all")"

# JSON: everything of the table and of the trace.
run 1 $off --json && python3 - "$work/out" "$message" <<'END' || fail "--json"
import json, sys
with open(sys.argv[1]) as file:
    top = json.load(file)
assert top["format"] == "quire-explore" and top["version"] == 1 and top["exit_status"] == 1
assert top["engine"] == "hash" and top["bound"] is None and top["off"] == ["FLUSH_BEFORE_FREE"]
row, = top["rows"]
assert row["scenario"] == "unmap_store" and row["kind"] == "hw" and row["verdict"] == "violation"
assert row["message"] == sys.argv[2] and sys.argv[2] in row["words"]
for key in "steps states executions pruned outcomes all_steps passes seconds".split():
    assert row[key] >= 0, key
trace = row["trace"]
assert [c["title"] for c in trace["columns"]] == ["munmap", "user"]
assert trace["message"] == row["message"]
steps = trace["steps"]
assert [s["n"] for s in steps] == list(range(1, len(steps) + 1))
assert all(0 <= s["column"] < 2 and s["text"] for s in steps)
assert any("releases frame" in n for s in steps for n in s["notes"])
changed = {trace["watches"][c["watch"]]["group"] for s in steps for c in s["changes"]}
assert "entry" in changed and "folio" in changed, changed
END
run 0 $one --json && python3 - "$work/out" <<'END' || fail "--json of an exhausted one"
import json, sys
with open(sys.argv[1]) as file:
    top = json.load(file)
row, = top["rows"]
assert top["exit_status"] == 0 and row["verdict"] == "exhausted" and row["trace"] is None
assert row["states"] > 10 and row["executions"] >= 1 and row["steps"] > 5
END

# Without a violation a page shows one run.
run 0 $one --html "$work/sample.html" && has "is told that CPU1 has flushed" "$work/sample.html"

# The guide: its example is the file that it names, and both of its runs end as it says.
sed -n '/^```c$/,/^```$/p' "$source/docs/EXPLORER.md" | sed '1d;/^```$/,$d' >"$work/example.c"
cmp "$work/example.c" "$source/scenarios/example_dma.c" ||
	fail "docs/EXPLORER.md shows another file"
run 0 example_dma && has "example_dma +sw .*exhausted$" "$work/out"
run 1 example_dma --off PIN_BLOCKS_RECLAIM && has "what the device has stored is lost" "$work/out"

for option in $("$quire" explore --help | grep -o -- '--[a-z]\+' | sort -u); do
	sed 's/\\-/-/g' "$source/docs/man/quire.1" | grep -q -- "$option" ||
		fail "docs/man/quire.1 does not name $option"
	grep -q -- "$option" "$source/docs/EXPLORER.md" ||
		fail "docs/EXPLORER.md does not name $option"
done
finish
