#!/usr/bin/env python3
"""Every scenario with all switches on, and with each of its switches off.

With all on nothing may be found; a scenario that is not exhausted says at which bound it stopped.
With a switch off the bug must be found, on each kind of machine of `home` and on one of the others,
and what was saved must replay with the same message. Every switch has a scenario.

table.py QUIRE FOLDER [--seconds N] [--on-only] [-- OPTION...]
"""

import argparse
import json
import os
import subprocess
import sys


def explore(quire, *args):
    done = subprocess.run([quire, "explore", "--json", *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        sys.exit("explore %s: exit status %d, no JSON: %s" %
                 (" ".join(args), done.returncode, done.stderr.decode()[-500:]))


def name(row):
    return "%s on %s" % (row["scenario"], row["kind"])


class Table:
    def __init__(self, args):
        self.args = args
        self.bad = 0

    def fail(self, text):
        print("FAILED: " + text)
        self.bad += 1

    def run(self, *more):
        return explore(self.args.quire, "--seconds", str(self.args.seconds), *self.args.options,
                       *more)

    def all_on(self):
        status, top = self.run()
        stopped = 0
        for row in top["rows"]:
            if row["verdict"] == "stopped" and row["why"] in ("time", "states", "memory"):
                stopped += 1
                print("not exhausted: %s: %s" % (name(row), row["words"]))
            elif row["verdict"] != "exhausted":
                self.fail("%s: %s" % (name(row), row["words"]))
            elif not row["executions"] or not row["states"]:
                self.fail("%s: exhausted without a run" % name(row))
        if not self.bad and status != (3 if stopped else 0):
            self.fail("exit status %d" % status)
        print("%d scenarios and kinds, %d exhausted, %.0f s" %
              (len(top["rows"]), len(top["rows"]) - stopped, top["seconds"]))

    def replay(self, folder, row):
        path = os.path.join(folder, "%s.%s.replay" % (row["scenario"], row["kind"]))
        status, top = explore(self.args.quire, "--replay", path)
        if status != 1 or top["rows"][0]["message"] != row["message"]:
            self.fail("%s: the replay ends with %d" % (name(row), status))

    def off(self, mechanism, scenarios):
        folder = os.path.join(self.args.folder, mechanism)
        os.makedirs(folder, exist_ok=True)
        _, top = self.run("--off", mechanism, "--save", folder)
        found = {}
        words = []
        for row in top["rows"]:
            if row["verdict"] == "violation":
                found.setdefault(row["scenario"], []).append(row["kind"])
                words.append("%s %s %.2f s" % (row["scenario"], row["kind"], row["seconds"]))
                self.replay(folder, row)
        for scenario in scenarios:
            kinds = {k["kind"] for k in scenario["kinds"] if mechanism in k["off"]}
            seen = set(found.get(scenario["name"], []))
            if "home" in kinds - seen or (kinds - {"home"} and not seen - {"home"}):
                self.fail("%s off: %s finds nothing on %s" %
                          (mechanism, scenario["name"], " ".join(sorted(kinds - seen))))
        print("%s off: found by %s" % (mechanism, ", ".join(words) or "none"))

    def all_off(self):
        _, top = explore(self.args.quire, "--list")
        for mechanism in top["mechanisms"]:
            scenarios = [s for s in top["scenarios"]
                         if any(mechanism["name"] in k["off"] for k in s["kinds"])]
            if scenarios:
                self.off(mechanism["name"], scenarios)
            else:
                self.fail("%s has no scenario" % mechanism["name"])


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("quire")
    args.add_argument("folder")
    args.add_argument("--seconds", type=int, default=15)
    args.add_argument("--on-only", action="store_true", help="not with switches off")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    args = args.parse_args(words[:split])
    args.options = words[split + 1:]
    table = Table(args)
    table.all_on()
    if not table.args.on_only:
        table.all_off()
    sys.exit(1 if table.bad else 0)


main()
