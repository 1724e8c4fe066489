#!/usr/bin/env bash
# The page of `quire explore --html` in a browser: its steps are there, and its script steps.
. "$(dirname "$0")/lib_explore.sh"

browser=
for name in chromium chromium-browser google-chrome google-chrome-stable; do
	command -v "$name" >/dev/null && browser=$name && break
done
if [ -z "$browser" ]; then
	echo "no chromium here: the page was not opened"
	exit 77
fi

# dom FRAGMENT: the page's elements after its script has run, in $work/dom.
dom() {
	timeout 120 "$browser" --headless --no-sandbox --disable-gpu \
		--user-data-dir="$work/profile" --virtual-time-budget=5000 \
		--dump-dom "file://$work/page.html$1" \
		>"$work/dom" 2>"$work/browser"
	[ -s "$work/dom" ] || fail "$browser showed nothing: $(tail -n 3 "$work/browser")"
}

run 1 unmap_store --kind hw --off FLUSH_BEFORE_FREE --html "$work/page.html" --json || finish
python3 - "$work/out" "$work" <<'END' || fail "the trace"
import json, sys
with open(sys.argv[1]) as file:
    steps = json.load(file)["rows"][0]["trace"]["steps"]
shown = [s for s in steps if not s["dull"]]
with open(sys.argv[2] + "/expect", "w") as file:
    print(len(shown), shown[0]["n"], shown[1]["n"], len(steps), file=file)
END
read -r shown first second last <"$work/expect"
sed 's|http://www.w3.org/2000/svg||' "$work/page.html" | grep -Eq 'https?:|src=|@import' &&
	fail "the page asks for something else"

dom ""
[ "$(grep -o 'class="step[ "]' "$work/dom" | wc -l)" = "$shown" ] || fail "not $shown steps"
has 'data-current="0"' "$work/dom"
has 'releases frame' "$work/dom"
has 'switched off: <b>FLUSH_BEFORE_FREE' "$work/dom"
has 'a page is freed while a TLB entry still reaches it' "$work/dom"
has 'which has been freed' "$work/dom"
has 'before the first step' "$work/dom"

dom "#step=$last"
has "data-current=\"$last\"" "$work/dom"
has "after step $last" "$work/dom"

# Two steps on by the arrow key, one back.
dom "#keys=RR"
has "data-current=\"$second\"" "$work/dom"
dom "#keys=RRL"
has "data-current=\"$first\"" "$work/dom"

# One run without a violation: an interrupt is asked for, taken and acknowledged.
run 0 unmap_store --kind hw --html "$work/page.html"
dom ""
has 'class="irq"[^>]*>interrupt<' "$work/dom"
has 'class="irq"[^>]*>ack<' "$work/dom"
has 'nothing is violated' "$work/dom"
finish
