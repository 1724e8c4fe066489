#!/usr/bin/env bash
# clang-format over Quire's C sources.
#
#   scripts/format.sh [--check] [FILE...]     default: every .c and .h file
set -euo pipefail
cd "$(dirname "$0")/.."
mode=(-i)
if [ "${1:-}" = --check ]; then
  mode=(--dry-run --Werror)
  shift
fi
if [ $# = 0 ]; then
  mapfile -t files < <(find src include tests bench examples -name '*.[ch]' 2>/dev/null | sort)
else
  files=("$@")
fi
[ ${#files[@]} != 0 ] || exit 0
if [ "${mode[0]}" = -i ]; then python3 scripts/wrap-comments.py "${files[@]}"; fi
clang-format --style=file "${mode[@]}" "${files[@]}"
