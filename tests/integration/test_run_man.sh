#!/usr/bin/env bash
# The manual pages: quire(3) says what the public header says, quire(1) names every option.
set -u
cd "${QUIRE_SOURCE:-$(dirname "$0")/../..}" || exit 1
failed=0
if ! python3 docs/man/quire3.py | cmp -s - docs/man/quire.3; then
	echo "docs/man/quire.3 is older than the header:"
	echo "python3 docs/man/quire3.py >docs/man/quire.3"
	failed=1
fi
quire=${QUIRE:-build/quire}
if [ ! -x "$quire" ]; then
	echo "$quire was not built"
	exit 1
fi
for option in $("$quire" run --help | grep -o -- '--[a-z]\+' | sort -u); do
	if ! sed 's/\\-/-/g' docs/man/quire.1 | grep -q -- "$option"; then
		echo "docs/man/quire.1 does not name $option"
		failed=1
	fi
done
exit $failed
