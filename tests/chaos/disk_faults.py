#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lets the n-th system call of a writer of images fail, for every n, and looks at what is stored then.

Usage: disk_faults.py WRITER [LAST_N]. Needs strace; without it the test says so and passes.

A restore must give exactly what was acknowledged, or what was being saved when the call failed, whole;
and a writer that is started again goes on from there.
"""

import os
import shutil
import subprocess
import sys
import tempfile

FAULTS = (
    ("fdatasync", "error=EIO"),
    ("fdatasync", "signal=KILL"),
    ("pwrite64", "error=ENOSPC"),
    ("pwrite64", "error=EIO"),
    ("writev", "error=ENOSPC"),
    ("writev", "error=EIO"),
    ("fallocate", "error=ENOSPC"),
)


def parse(text, word):
    """{partition: version} of the last line with this word."""
    last = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 3 and parts[0] == word and parts[1].isdigit():
            last[int(parts[1])] = int(parts[2])
    return last


def check(writer, store, begun, acked):
    """What is wrong with the store, or an empty string; and what is in it."""
    run = subprocess.run([writer, "--dir", store, "--check"], capture_output=True, text=True,
                         timeout=60, check=False)
    if run.returncode != 0:
        return f"check ended with {run.returncode}: {run.stdout.strip()}", {}
    found = parse(run.stdout, "found")
    for partition in set(begun) | set(found):
        version = found.get(partition, 0)
        least, most = acked.get(partition, 0), begun.get(partition, 0)
        if not least <= version <= most:
            return f"partition {partition}: {version} found, {least} acknowledged, {most} begun", found
    return "", found


def run_one(writer, call, fault, n, directory):
    """(what is wrong, whether the fault came, whether what was not acknowledged is there)."""
    store = os.path.join(directory, "store")
    shutil.rmtree(store, ignore_errors=True)
    inject = f"inject={call}:{fault}:when={n}"
    run = subprocess.run(
        ["strace", "-f", "-qq", "-o", os.path.join(directory, "trace"), "-e", f"trace={call}", "-e",
         inject, writer, "--dir", store, "--saves", "60"], capture_output=True, text=True,
        timeout=60, check=False)
    begun, acked = parse(run.stdout, "begin"), parse(run.stdout, "ack")
    with open(os.path.join(directory, "trace"), encoding="utf-8", errors="replace") as trace:
        text = trace.read()
        came = "(INJECTED)" in text or "SIGKILL" in text
    if not came and run.returncode != 0:
        return f"ended with {run.returncode} without a fault: {run.stdout[-300:]}", False, False
    if not os.path.exists(store):
        return ("", came, False) if not acked else ("the store is gone", came, False)
    wrong, found = check(writer, store, begun, acked)
    if wrong:
        return wrong, came, False
    ahead = any(version > acked.get(p, 0) for p, version in found.items())
    again = subprocess.run([writer, "--dir", store, "--saves", "8"], capture_output=True, text=True,
                           timeout=60, check=False)
    if again.returncode != 0:
        return f"cannot go on: {again.stdout[-300:]}", came, ahead
    goes_on = {p: max(found.get(p, 0), v) for p, v in parse(again.stdout, "ack").items()}
    wrong, _ = check(writer, store, goes_on, goes_on)
    return wrong, came, ahead


def main():
    writer = sys.argv[1]
    last = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    if shutil.which("strace") is None:
        print("strace is not here (apt-get install strace): NOTHING WAS TESTED")
        return 0
    bad = 0
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as directory:
        for call, fault in FAULTS:
            came = ahead = 0
            for n in range(1, last + 1):
                wrong, happened, kept = run_one(writer, call, fault, n, directory)
                if wrong:
                    bad += 1
                    print(f"WRONG: {call} {fault} n={n}: {wrong}")
                if not happened:
                    break
                came += 1
                ahead += kept
            print(f"{call} {fault}: {came} points, after {ahead} of them what was not acknowledged "
                  "is stored, whole")
    print("wrong restores:", bad)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
