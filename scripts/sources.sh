#!/bin/sh
# Lists the files of one folder (not of those below it) by their names, sorted: the helper by
# which the meson.build files pick up sources at configure time.
#
#   scripts/sources.sh FOLDER [PATTERN...]     PATTERN: *.c when none is given
[ -d "$1" ] || exit 0
cd "$1" || exit 1
shift
[ $# -gt 0 ] || set -- '*.c'
for pattern in "$@"; do
  for file in $pattern; do
    if [ -f "$file" ]; then echo "$file"; fi
  done
done | LC_ALL=C sort -u
