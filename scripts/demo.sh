#!/usr/bin/env bash
# The demonstration behind `make run`: a real program under a quarter of the memory it wants.
set -euo pipefail
cd "$(dirname "$0")/.."
quire=${QUIRE_BUILD:-build}/quire
if [ ! -x "$quire" ] || ! "$quire" run --help >/dev/null 2>&1; then
  echo "demo: $quire has no 'run' yet: there is nothing to show" >&2
  exit 1
fi
exec "$quire" run --ram 64M -- python3 -c '
words = [("word %d" % i) * 4 for i in range(2000000)]
print(len(words), "words,", sum(map(len, words)), "characters")'
