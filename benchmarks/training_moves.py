#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What real training notices of plans: records a second while servers are added, removed and replaced.

Usage: training_moves.py BIN [--model deepfm] [--dim 16] [--workers 1] [--records 1000000] [--own 5]
       [--partitions 256] [--pull-ahead 2] [--memory-at-hand-mib 0] [--calm 20] [--lowest 0.7]
       [--dir D] [--set KEY=VALUE ..]

Click records in the form of Criteo's, 39 fields, of which `--own` have an id of their own in every record:
as many million rows as a million records times that, and all of them change in every epoch. Two servers
and the workers train on them; then `scale --ps 4`, `scale --ps 3` and `migrate ps-0`, each after `--calm`
seconds without a plan that are measured too. Prints a table, and exits with 1 unless every plan is done,
the audit is exact, nobody who stays was restarted, and the lowest second of each plan has at least
`--lowest` of the records of the calm before it.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "chaos"))

import cluster as clusters  # noqa: E402

COUNTS = 13
CATEGORIES = 26
FILL_SECONDS = 900  # at most
PLANS = (("scale", "--ps", "4"), ("scale", "--ps", "3"), ("migrate", "ps-0"))


def write_clicks(path, records, own):
    """The shared fields repeat every few thousand records; skewed, as ids are."""
    draw = random.Random(1)
    heads = ["\t".join([str(draw.randrange(2))] + [str(int(draw.paretovariate(0.8)) % 1000)
                                                   for _ in range(COUNTS)]) for _ in range(2000)]
    tails = ["\t".join(f"{int(draw.paretovariate(0.6)) % 100_000:08x}"
                       for _ in range(CATEGORIES - own)) for _ in range(20_000)]
    with open(path, "w", encoding="ascii") as out:
        for i in range(records):
            ids = "\t".join(f"{i:08x}" for _ in range(own))
            out.write(f"{heads[draw.randrange(2000)]}\t{ids}\t{tails[draw.randrange(20_000)]}\n")


class MemoryAtHand:
    """Memory that the system has got ready: a child touches it, and gives it back bit by bit once a plan begins.

    A machine whose host takes back what is free has none at hand otherwise: its first touch takes many times
    as long, which is no matter of migrations.
    """

    CODE = """
import sys, time
pieces = [b"x" * (100 << 20) for _ in range(int(sys.argv[1]) // 100)]
print(len(pieces), flush=True)
sys.stdin.readline()
while pieces:
    pieces.pop()
    time.sleep(0.5)
"""

    def __init__(self, mib):
        self.child = None
        if mib > 0:
            self.child = subprocess.Popen([sys.executable, "-c", self.CODE, str(mib)],
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.child.stdout.readline()

    def give_back(self):
        if self.child is not None:
            self.child.stdin.write(b"\n")
            self.child.stdin.flush()

    def close(self):
        if self.child is not None:
            self.child.kill()
            self.child.wait()


class Watch(threading.Thread):
    """How many records are done, ten times a second."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster = cluster
        self.samples = []
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.1):
            status = self.cluster.status()
            if status:
                self.samples.append((time.monotonic(), status["job"]["records_done"]))

    def _between(self, begin, end):
        return [s for s in self.samples if begin <= s[0] <= end]

    def rate(self, begin, end):
        part = self._between(begin, end)
        return (part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0])

    def lowest_second(self, begin, end):
        part = self._between(begin, end)
        lowest, first = self.rate(begin, end), 0
        for at, records in part:
            if at - part[0][0] < 1:
                continue
            while at - part[first + 1][0] >= 1:
                first += 1
            lowest = min(lowest, (records - part[first][1]) / (at - part[first][0]))
        return lowest

    def by_second(self, begin, end):
        """Millions in each second."""
        rates = []
        while begin + 1 <= end:
            rates.append(f"{self.rate(begin, begin + 1.11) / 1e6:.3f}")
            begin += 1
        return " ".join(rates)


def start(options, directory):
    data = os.path.join(directory, "clicks.tsv")
    write_clicks(data, options.records, options.own)
    settings = {"data": data, "schema": "criteo", "model": options.model,
                "model_config": f"[dim={options.dim}]", "ps": 2, "workers": options.workers,
                "epochs": 1_000_000, "partitions": options.partitions, "pull_ahead": options.pull_ahead}
    settings.update(dict(pair.split("=", 1) for pair in options.set))
    cluster = clusters.Cluster(options.bin, directory, settings)
    began, wanted, done = time.monotonic(), 1.2 * options.records, 0
    while done < wanted:
        if time.monotonic() - began > FILL_SECONDS:
            cluster.run("down")
            raise RuntimeError(f"only {done} records were learnt in {FILL_SECONDS} s")
        time.sleep(0.5)
        status = cluster.status()
        done = status["job"]["records_done"] if status else done
        print(f"\rfilling: {done} of {wanted:.0f} records", end="", file=sys.stderr)
    print(f", {time.monotonic() - began:.0f} s", file=sys.stderr)
    return cluster


def run_plan(cluster, watch, options, plan):
    """What is printed of it, and what is wrong with it."""
    memory = MemoryAtHand(options.memory_at_hand_mib)
    nodes = {n["name"]: n for n in cluster.status()["nodes"]}
    calm = time.monotonic()
    time.sleep(options.calm)
    calm_end = time.monotonic()
    memory.give_back()
    begin = time.monotonic()
    run = cluster.run(*plan, "--wait")
    end = time.monotonic() + 1
    time.sleep(1.2)
    memory.close()
    status = cluster.status()
    told = status["plans"][-1]
    before, lowest = watch.rate(calm, calm_end), watch.lowest_second(begin, end)
    wrong = [] if run.returncode == 0 else [run.stderr.strip()]
    if lowest < options.lowest * before:
        wrong.append(f"lowest second below {options.lowest:.0%}")
    after = {n["name"]: n for n in status["nodes"]}
    wrong += [f"{name} was restarted" for name, node in nodes.items() if name in after and
              (after[name]["restarts"], after[name]["pid"]) != (node["restarts"], node["pid"])]
    print(f"| {' '.join(plan)} | {told['moved']} | {told['rows'] / 1e6:.2f} M | {told['seconds']:.1f} | "
          f"{told['bytes'] / 1e6 / told['seconds']:.0f} | {told['pause_p50_ms']:.1f} / "
          f"{told['pause_p99_ms']:.1f} / {told['pause_max_ms']:.1f} | {before / 1e3:.0f} k | "
          f"{watch.lowest_second(calm, calm_end) / before:.0%} | {lowest / before:.0%} | "
          f"{', '.join(wrong) or 'ok'} |", flush=True)
    print(f"{' '.join(plan)}: million records in each second: {watch.by_second(begin, end)}",
          file=sys.stderr)
    return wrong


def measure(options, directory):
    cluster = start(options, directory)
    try:
        watch = Watch(cluster)
        watch.start()
        print("| plan | partitions | rows | s | MB/s | pause p50 / p99 / max ms | records/s before | "
              "lowest second before | lowest second | checks |\n|" + "---|" * 10, flush=True)
        wrong = []
        for plan in PLANS:
            wrong += run_plan(cluster, watch, options, plan)
        watch.ended.set()
        watch.join()
        exact, audit = cluster.verify()
        print("audit:", audit)
        return 0 if exact and not wrong else 1
    finally:
        cluster.run("down")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bin")
    parser.add_argument("--model", default="deepfm")
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--own", type=int, default=5, choices=range(CATEGORIES + 1), metavar="FIELDS")
    parser.add_argument("--partitions", type=int, default=256)
    parser.add_argument("--pull-ahead", type=int, default=2)
    parser.add_argument("--memory-at-hand-mib", type=int, default=0)
    parser.add_argument("--calm", type=float, default=20)
    parser.add_argument("--lowest", type=float, default=0.7)
    parser.add_argument("--dir", default=None)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the cluster file")
    options = parser.parse_args()
    for pair in options.set:
        if "=" not in pair:
            parser.error(f"--set {pair}: give KEY=VALUE, as in the cluster file")
    clusters.clean_up_when_told_to_end()
    directory = tempfile.mkdtemp(prefix="freshet-moves-", dir=options.dir)
    try:
        return measure(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
