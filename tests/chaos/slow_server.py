#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One of the servers becomes slow: does the cluster shed load from it by itself, and give it back later?

Usage: slow_server.py BIN [--by quota|turns] [--ps 3] [--workers 2] [--share 0.15] [--slowness 4]
       [--seconds 15] [--steady 60] [--return yes|no] [--goal 0.85] [--dir D] [--trace]

Every server gets the same share of a processor, so small that the servers are what the training waits
for: their speeds then decide, and with one of N at 1/s of its speed the others leave (N - 1 + 1/s) / N of
the throughput before, if partitions lie where the speed is. Shares are kept by a cgroup quota, or by
SIGSTOP and SIGCONT in turns. Exits with 1 unless at least --goal of that is reached without a command, the
placement is then left alone for --steady seconds, partitions come back when the server is fast again, the
audit is exact and nobody was restarted.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import cluster as clusters  # noqa: E402
import throttle  # noqa: E402

PARTITIONS = 96


def write_ratings(path, records, users, items):
    draw = random.Random(1)
    with open(path, "w", encoding="ascii") as out:
        out.write("userId,movieId,rating,timestamp\n")
        for i in range(records):
            out.write(f"{draw.randrange(users)},{draw.randrange(items)},{draw.randrange(1, 6)},{i}\n")


def start(options, directory):
    data = os.path.join(directory, "ratings.csv")
    write_ratings(data, 500_000, 200_000, 20_000)
    return clusters.Cluster(options.bin, directory, {
        "data": data, "schema": "movielens", "model": "fm", "model_config": "[dim=64]",
        "ps": options.ps, "workers": options.workers, "epochs": 1_000_000, "batch_size": 4096,
        "pull_ahead": 8, "partitions": PARTITIONS, "log_level": options.log_level})


def plans_running(status):
    return any(plan["state"] in ("queued", "running") for plan in status["plans"])


def numbers(cluster, status=None):
    return [node["partitions"] for node in cluster.servers(status).values()]


class Trace:
    """A line a second, for who wants to see."""

    def __init__(self, options):
        self.on = options.trace
        self.began = time.monotonic()

    def __call__(self, cluster, status):
        if self.on:
            print(f"  {time.monotonic() - self.began:6.1f} s {status['job']['records_per_sec']:>10.0f} "
                  f"records/s, partitions {numbers(cluster, status)}", flush=True)


def settle(cluster, trace, holds, quiet_s, limit_s):
    """Seconds until `holds` and no plan ran for `quiet_s` after that; None when the limit came first."""
    began = time.monotonic()
    quiet_since = None
    while time.monotonic() - began < limit_s:
        time.sleep(1)
        status = cluster.status()
        trace(cluster, status)
        now = time.monotonic()
        if plans_running(status) or not holds(status):
            quiet_since = None
            continue
        quiet_since = quiet_since or now
        if now - quiet_since >= quiet_s:
            return quiet_since - began
    return None


def watch(cluster, trace, seconds):
    """How many plans begin in that time."""
    before = len(cluster.events("plan_running"))
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(1)
        trace(cluster, cluster.status())
    return len(cluster.events("plan_running")) - before


class Run:
    def __init__(self, options, cluster, throttles):
        self.options = options
        self.cluster = cluster
        self.throttles = throttles
        self.trace = Trace(options)
        self.rows = []
        self.problems = []

    def note(self, what, rate, of=None):
        base = of or (self.rows[0][1] if self.rows else rate)
        self.rows.append((what, rate, rate / base, numbers(self.cluster)))

    def measure(self, what):
        rate = self.cluster.records_per_sec(self.options.seconds)
        self.note(what, rate)
        return rate

    def slow_down(self, slow):
        options = self.options
        time.sleep(3)
        before = self.measure("before")
        self.throttles[slow].share(options.share / options.slowness)
        time.sleep(1)
        self.note("slow", self.cluster.records_per_sec(options.seconds, plans_running))
        took = settle(self.cluster, self.trace, lambda status: status["plans"], 8, 120)
        if took is None:
            self.problems.append("nothing was done within 120 s")
        after = self.measure("rebalanced")
        remaining = (options.ps - 1 + 1 / options.slowness) / options.ps
        reached = after / before / remaining
        print(f"settled after {took or -1:.0f} s; the speed that is left allows {remaining:.3f} of before; "
              f"reached {reached:.3f} of that (goal {options.goal})")
        if reached < options.goal:
            self.problems.append("too little throughput after rebalancing")
        if reached > 1.15:
            self.problems.append("void: more than is possible, so the machine was disturbed before")
        swings = watch(self.cluster, self.trace, options.steady)
        print(f"{swings} plans in the {options.steady} s after it")
        if swings > options.steady // 60:
            self.problems.append("the placement is not left alone")

    def speed_up(self, slow):
        self.throttles[slow].share(self.options.share)
        wanted = 0.8 * PARTITIONS / self.options.ps
        took = settle(self.cluster, self.trace,
                      lambda status: self.cluster.servers(status)[slow]["partitions"] >= wanted, 5, 360)
        if took is None:
            self.problems.append("the load did not come back within 360 s")
        print(f"fast again: its load is back after {took or -1:.0f} s")
        self.measure("fast again")


def report(run, cluster):
    print(f"\n{'':<12}{'records/s':>12}{'of before':>11}  partitions")
    for what, rate, share, where in run.rows:
        print(f"{what:<12}{rate:>12.0f}{share:>11.3f}  {where}")
    print()
    for event in cluster.events("balancing", "plan_running", "plan_done", "plan_failed"):
        print(f"{event['kind']:<13} {event['text']}")
    exact, audit = cluster.verify()
    print("audit:", audit)
    if not exact:
        run.problems.append("the audit is not exact")
    restarts = sum(node["restarts"] for node in cluster.status()["nodes"])
    if restarts:
        run.problems.append(f"{restarts} restarts")
    print("problems:", run.problems or "none")
    return 1 if run.problems else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin")
    for name, value in (("ps", 3), ("workers", 2), ("share", 0.15), ("slowness", 4.0), ("seconds", 15),
                        ("steady", 60), ("goal", 0.85), ("log-level", "info"), ("dir", "")):
        parser.add_argument("--" + name, type=type(value), default=value)
    parser.add_argument("--by", choices=("quota", "turns", "any"), default="any")
    parser.add_argument("--return", dest="back", choices=("yes", "no"), default="yes")
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    clusters.clean_up_when_told_to_end()
    if options.by == "any":
        options.by = "quota" if throttle.quota_works() else "turns"
    kind = throttle.Quota if options.by == "quota" else throttle.Turns
    directory = options.dir or tempfile.mkdtemp(prefix="freshet-slow-")
    os.makedirs(directory, exist_ok=True)
    cluster = start(options, directory)
    throttles = {}
    try:
        for name, node in cluster.servers().items():
            throttles[name] = kind(node["pid"])
            throttles[name].share(options.share)
        print(f"{options.ps} servers with {options.share} of a processor each, by {options.by}", flush=True)
        run = Run(options, cluster, throttles)
        run.slow_down("ps-0")
        if options.back == "yes":
            run.speed_up("ps-0")
        for limit in throttles.values():
            limit.share(1)
        code = report(run, cluster)
    finally:
        for limit in throttles.values():
            limit.share(1)
        cluster.run("down")
        for limit in throttles.values():
            limit.close()
        if not options.dir:
            shutil.rmtree(directory, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
