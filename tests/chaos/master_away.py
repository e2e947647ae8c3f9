#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The master of a cluster under load is killed and stays away: how long do records flow, how soon again?

Usage: master_away.py BIN [--away 60] [--before 10] [--model deepfm] [--batch 512] [--dir D]

The supervisor is stopped, so that nobody restarts the master. While it is away, nobody can tell how many
records are learnt; the processor time of the workers tells whether they learn. Exits with 1 unless the
audit is exact, nobody else was restarted and records flow again within two seconds of the master's return.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SETTINGS = """data: {data}
schema: freshet
model: {model}
ps: 2
workers: 2
epochs: 1000000
batch_size: {batch}
"""


class Cluster:
    def __init__(self, options, directory):
        self.bin = options.bin
        self.dir = os.path.join(directory, "cluster")
        data = os.path.join(directory, "clicks.tsv")
        self.run("generate", "--records", "500000", "--out", data, cluster=False)
        file = os.path.join(directory, "cluster.yaml")
        with open(file, "w", encoding="utf-8") as out:
            out.write(SETTINGS.format(data=data, model=options.model, batch=options.batch))
        self.run("up", "-f", file)

    def run(self, *args, cluster=True, check=True):
        more = ["--dir", self.dir] if cluster else []
        return subprocess.run([os.path.join(self.bin, "freshet"), *args, *more],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              check=check)

    def status(self):
        run = self.run("status", "-o", "json", check=False)
        return json.loads(run.stdout) if run.returncode == 0 else None

    def master(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().decode().split("\0")
            except OSError:
                continue
            if words[0].endswith("freshet-master") and self.dir in words:
                return int(pid)
        return None


def cpu_ms(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total * 1000 // os.sysconf("SC_CLK_TCK")


def watch_workers(pids, seconds):
    """Processor time of the workers in each second."""
    spent = []
    before = cpu_ms(pids)
    for _ in range(seconds):
        time.sleep(1)
        now = cpu_ms(pids)
        spent.append(now - before)
        before = now
    return spent


def await_flow(cluster, began):
    """Seconds until the master answers, and until new records are learnt; what was done by then."""
    answered = first = None
    while time.monotonic() - began < 60:
        status = cluster.status()
        if status and status["job"]["phase"] == "training":
            records = status["job"]["records_done"]
            answered = answered or time.monotonic() - began
            if first is not None and records > first:
                return answered, time.monotonic() - began, first
            first = records if first is None else min(first, records)
        time.sleep(0.01)
    return answered, None, first


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bin")
    for name, value in (("away", 60), ("before", 10), ("model", "deepfm"), ("batch", 512),
                        ("dir", "")):
        parser.add_argument("--" + name, type=type(value), default=value)
    options = parser.parse_args()
    directory = options.dir or tempfile.mkdtemp(prefix="freshet-away-")
    os.makedirs(directory, exist_ok=True)
    cluster = Cluster(options, directory)
    time.sleep(options.before)
    before = cluster.status()
    pids = {node["name"]: node["pid"] for node in before["nodes"]}
    workers = [pid for name, pid in pids.items() if name.startswith("worker")]
    usual = watch_workers(workers, 2)[-1]
    before = cluster.status()
    with open(os.path.join(cluster.dir, "supervisor.pid"), encoding="ascii") as file:
        supervisor = int(file.read().split()[0])
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(cluster.master(), signal.SIGKILL)
    spent = watch_workers(workers, options.away)
    busy = [i for i, ms in enumerate(spent) if ms > usual / 5]
    began = time.monotonic()
    os.kill(supervisor, signal.SIGCONT)
    answered, flowing, records = await_flow(cluster, began)
    after = cluster.status()
    audit = cluster.run("verify", "-o", "json", check=False)
    cluster.run("down", check=False)
    print(f"before: {before['job']['records_per_sec']:.0f} records/s, workers use {usual} ms a second")
    print("processor time of the workers, ms in each second away:", *spent)
    print(f"away {options.away} s: the workers learnt until second {busy[-1] + 1 if busy else 0}, "
          f"{records - before['job']['records_done']} records meanwhile")
    print(f"back: the master answers after {answered:.2f} s, records flow after {flowing or -1:.2f} s")
    print("audit:", audit.stdout.strip().replace("\n", " "))
    same = {node["name"]: node["pid"] for node in after["nodes"]} == pids
    print("the other processes are", "the same" if same else "NOT the same")
    if not options.dir:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if audit.returncode == 0 and same and flowing and flowing <= 2 else 1


if __name__ == "__main__":
    sys.exit(main())
