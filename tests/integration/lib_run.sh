# What the tests of `quire run` share: running a program natively and managed, and comparing.
set -u
quire=${QUIRE:-build/quire}
programs=${QUIRE_BUILD:-build}/tests/programs
work=$(mktemp -d "${TMPDIR:-/tmp}/quire-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
export LC_ALL=C PYTHONDONTWRITEBYTECODE=1
ulimit -c 0
failed=0
# A sanitized library cannot be preloaded into a program that was built without.
if [ -n "${QUIRE_SANITIZE:-}" ]; then
	echo "a library built with -fsanitize=$QUIRE_SANITIZE cannot be preloaded"
	exit 77
fi
if [ ! -x "$quire" ]; then
	echo "$quire was not built"
	exit 1
fi
if ! "$quire" info >"$work/info"; then
	grep -v ' yes$' "$work/info" | tail -n 3
	echo "this machine lacks what quire run needs (quire info says how to get it)"
	exit 77
fi

fail() {
	echo "FAILED: $*"
	failed=1
}

# same NAME RAM INPUT COMMAND...: standard output and exit status must be those of a native run.
same() {
	local name=$1 ram=$2 input=$3 native managed
	shift 3
	{ # the shell's own words about signals are not wanted
		timeout 300 "$@" <"$input" >"$work/native.out" 2>"$work/native.err"
		native=$?
		timeout 300 "$quire" run --quiet --ram "$ram" -- "$@" <"$input" \
			>"$work/managed.out" 2>"$work/managed.err"
		managed=$?
	} 2>/dev/null
	if [ "$native" != "$managed" ]; then
		fail "$name with $ram: exit status $managed, natively $native"
		tail -n 5 "$work/managed.out" "$work/managed.err"
	elif ! cmp -s "$work/native.out" "$work/managed.out"; then
		fail "$name with $ram: the output differs"
		diff "$work/native.out" "$work/managed.out" | head -n 10
	else
		echo "ok: $name with $ram"
	fi
}

# number KEY FILE: a number of a JSON report.
number() {
	sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" "$2" | head -n 1
}

finish() {
	exit "$failed"
}
