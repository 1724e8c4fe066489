# What the tests of `quire explore` share.
set -u
quire=${QUIRE:-build/quire}
source=${QUIRE_SOURCE:-$(dirname "${BASH_SOURCE[0]}")/../..}
work=$(mktemp -d "${TMPDIR:-/tmp}/quire-explore.XXXXXX")
trap 'rm -rf "$work"' EXIT
export LC_ALL=C PYTHONDONTWRITEBYTECODE=1
failed=0
if [ ! -x "$quire" ]; then
	echo "$quire was not built"
	exit 1
fi

fail() {
	echo "FAILED: $*"
	failed=1
}

# bad WORD ARGUMENT...: exit status 2 and one line on standard error that contains WORD.
bad() {
	local word=$1 status
	shift
	"$quire" explore "$@" >"$work/out" 2>"$work/err" </dev/null
	status=$?
	[ $status = 2 ] || fail "explore $*: exit status $status, expected 2"
	[ "$(wc -l <"$work/err")" = 1 ] || fail "explore $*: not one line: $(cat "$work/err")"
	grep -qF -- "$word" "$work/err" ||
		fail "explore $*: '$word' is not named: $(cat "$work/err")"
	[ -s "$work/out" ] && fail "explore $*: wrote to standard output"
}

# run STATUS ARGUMENT...: output in $work/out and $work/err.
run() {
	local want=$1 status
	shift
	"$quire" explore "$@" >"$work/out" 2>"$work/err" </dev/null
	status=$?
	[ $status = "$want" ] && return 0
	fail "explore $*: exit status $status, expected $want: $(tail -n 3 "$work/out" "$work/err")"
	return 1
}

# has PATTERN FILE
has() {
	grep -Eq -- "$1" "$2" || fail "no '$1' in: $(head -n 60 "$2")"
}

finish() {
	exit "$failed"
}
