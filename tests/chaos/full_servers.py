#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ever new ids fill the servers' memory: are they relieved before they are full, and what if nobody can?

Usage: full_servers.py BIN [--limit-mib 512] [--small-mib 256] [--max-ps 4] [--rate 40000] [--dir D]
       [--full-seconds 20] [--trace]

A log that grows by records of users nobody has seen. Besides the cluster's one server a smaller one is
started by hand; it is the first to run short. The run has three acts: servers are relieved or added up to
max_ps; then all are full; then max_ps is raised. In the second act the fullest server is killed by
SIGKILL and must come back. Exits with 1 unless until the second act no push was refused for memory, in all
acts no server had more than its limit, nobody else ended, events say what was done and when it was no
longer possible, and in the end every record is learnt and the audit is exact.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

import cluster as clusters  # noqa: E402

MIB = 1 << 20
SMALL = "ps-small"


class GrowingLog:
    """Appends so many records a second, each of a new user."""

    def __init__(self, path, rate):
        self.path = path
        self.rate = rate
        self.written = 0
        self.ended = threading.Event()
        self.goes_on = threading.Event()
        self.goes_on.set()
        with open(path, "w", encoding="ascii") as out:
            out.write("userId,movieId,rating,timestamp\n")
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        with open(self.path, "a", encoding="ascii") as out:
            began = time.monotonic()
            due = 0.0
            while not self.ended.wait(0.1):
                now = time.monotonic()
                if not self.goes_on.is_set():
                    began, due = now, 0.0
                    continue
                until = self.written + int((now - began) * self.rate - due)
                due += until - self.written
                out.writelines(f"{i},{i % 500},{1 + i % 5},{i}\n" for i in range(self.written, until))
                out.flush()
                self.written = until

    def close(self):
        self.ended.set()
        self.thread.join()


def resident_mib(pid):
    """Without pages of files, which the kernel takes back when it needs them."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return 0  # it has ended
    return int(lines.get("RssAnon", "0").split()[0]) / 1024


class Watch:
    """Highest fill and resident memory of each server, and what was refused."""

    def __init__(self, cluster, trace):
        self.cluster = cluster
        self.trace = trace
        self.began = self.said = time.monotonic()
        self.fill = {}
        self.resident = {}
        self.refused = 0
        self.restarts = 0
        self.killed = 0  # by us
        self.victim = None

    def look(self):
        status = self.cluster.status()
        if status is None:
            return None
        for node in status["nodes"]:
            self.restarts = max(self.restarts, node["restarts"])
            if node["role"] != "ps" or node["memory_limit_bytes"] == 0:
                continue
            name = node["name"]
            self.fill[name] = max(self.fill.get(name, 0), node["memory_bytes"] / node["memory_limit_bytes"])
            self.resident[name] = max(self.resident.get(name, 0), resident_mib(node["pid"]))
        self.refused = sum(n.get("refused_pushes", 0) for n in status["nodes"])
        if self.trace and time.monotonic() - self.said >= 3:
            self.said = time.monotonic()
            fills = {n: f"{v['memory_bytes'] / MIB:.0f}" for n, v in self.cluster.servers(status).items()}
            print(f"  {time.monotonic() - self.began:6.1f} s  done {status['job']['records_done']:>9}  lag "
                  f"{status['job']['lag_records']:>8}  refused {self.refused}  MiB {fills}", flush=True)
        return status

    def until(self, holds, limit_s):
        """True when it held in time."""
        give_up = time.monotonic() + limit_s
        while time.monotonic() < give_up:
            status = self.look()
            if status and holds(status):
                return True
            time.sleep(0.5)
        return False


def start(options, directory, log):
    cluster = clusters.Cluster(options.bin, directory, settings(options, log, options.max_ps))
    return cluster, start_small(options, cluster, directory)


def start_small(options, cluster, directory):
    address = open(os.path.join(cluster.dir, "master", "address"), encoding="ascii").read()
    return subprocess.Popen(
        [os.path.join(options.bin, "freshet-ps"), "--name", SMALL, "--master", address, "--dir",
         os.path.join(directory, SMALL), "--memory-limit", f"{options.small_mib}MiB"],
        stdout=subprocess.DEVNULL, stderr=open(os.path.join(directory, SMALL + ".log"), "a", encoding="utf-8"))


def settings(options, log, max_ps):
    return {"data": log.path, "schema": "movielens", "model": "fm", "model_config": "[dim=64]", "ps": 1,
            "workers": 1, "batch_size": 1024, "partitions": 64, "follow": "true", "max_ps": max_ps,
            "ps_memory_limit": f"{options.limit_mib}MiB", "balance_interval_ms": 1000}


def fill_up(options, cluster, watch, problems):
    joined = watch.until(lambda status: SMALL in cluster.servers(status), 30)
    full = joined and watch.until(lambda status: watch.refused > 0, 600)
    if not full:
        problems.append("the servers never became full")
    servers = len(cluster.servers())
    low = cluster.events("memory_low")
    print(f"full after {time.monotonic() - watch.began:.0f} s with {servers} servers (max_ps {options.max_ps})")
    if servers < options.max_ps:
        problems.append("a push was refused before all servers were there")
    if not low:
        problems.append("no event said that memory is short")
    if not any("relieve" in event["text"] for event in cluster.events("plan_done")):
        problems.append("nobody was relieved by moving partitions")


def kill_fullest(cluster, watch, before, problems):
    """What was learnt until memory was full is there again; nothing else could be while it is full."""
    ours = [n for n in cluster.servers().values() if n["name"] != SMALL]  # nobody would start it again
    victim = max(ours, key=lambda n: (n["refused_pushes"] > 0, n["memory_bytes"] / n["memory_limit_bytes"]))
    if victim["refused_pushes"] == 0:
        # Only the small one is full, and only who is full hurries to make durable what it has.
        watch.until(lambda status: False, 20)
    name = watch.victim = victim["name"]
    os.kill(cluster.servers()[name]["pid"], signal.SIGKILL)
    watch.killed += 1

    def is_back(status):
        serving = [e for e in cluster.events("ps_serving") if e["node"] == name]
        return (serving and cluster.servers(status)[name]["restarts"] == 1 and
                status["job"]["records_done"] >= before)

    if not watch.until(is_back, 30):
        problems.append(f"{name} is full and does not come back from a kill with what it had learnt")


def stay_full(options, cluster, watch, problems):
    before = watch.look()["job"]["records_done"]
    watch.until(lambda status: False, options.full_seconds)
    kill_fullest(cluster, watch, before, problems)
    status = watch.look()
    print(f"full for {options.full_seconds} s: {status['job']['records_done'] - before} records were learnt, "
          f"{status['job']['lag_records']} wait")
    workers = [n for n in status["nodes"] if n["role"] == "worker"]
    print("worker's memory:", [f"{resident_mib(n['pid']):.0f} MiB" for n in workers])
    absent = [f"{n['name']} {n['state']}" for n in status["nodes"] if n["state"] != "running"]
    if absent:
        problems.append(f"somebody does not run: {absent}")


def make_room(options, cluster, log, watch, problems):
    cluster.run("down")  # the small server leaves as well
    file = os.path.join(os.path.dirname(cluster.dir), "more.yaml")
    with open(file, "w", encoding="utf-8") as out:
        for key, value in settings(options, log, options.max_ps + 3).items():
            out.write(f"{key}: {value}\n")
    # It runs only once the small one is back, which is not its own to start.
    cluster.run("up", "-f", file, "--timeout-ms", "1000")
    small = start_small(options, cluster, os.path.dirname(cluster.dir))
    if not watch.until(lambda status: status["job"]["lag_records"] == 0 and
                       status["job"]["records_done"] == log.written, 180):
        problems.append("the records that waited were not learnt")
    print(f"with max_ps {options.max_ps + 3}: {len(cluster.servers())} servers, "
          f"{watch.look()['job']['records_done']} of {log.written} records learnt")
    return small


def report(options, cluster, watch, problems):
    print(f"\n{'server':<10}{'highest fill':>14}{'resident MiB':>14}")
    for name, fill in sorted(watch.fill.items()):
        print(f"{name:<10}{fill * 100:>12.1f} %{watch.resident[name]:>14.0f}")
        # What is read back after a kill may lie a little less densely.
        if fill > (1.05 if name == watch.victim else 1):
            problems.append(f"{name} had more than its limit")
    print()
    for event in cluster.events("balancing", "memory_low", "memory_full", "plan_running", "plan_done",
                                "plan_failed"):
        print(f"{event['kind']:<13} {event['node']:<9} {event['text']}")
    exact, audit = cluster.verify()
    print("audit:", audit)
    if not exact:
        problems.append("the audit is not exact")
    exits = [e for e in cluster.events("node_exited", "node_killed") if "exit 0" not in e["text"]]
    if len(exits) != watch.killed or watch.restarts > watch.killed:
        problems.append(f"somebody ended: {exits}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin")
    for name, value in (("limit-mib", 512), ("small-mib", 256), ("max-ps", 4), ("rate", 40_000),
                        ("full-seconds", 20), ("dir", "")):
        parser.add_argument("--" + name, type=type(value), default=value)
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    clusters.clean_up_when_told_to_end()
    directory = options.dir or tempfile.mkdtemp(prefix="freshet-full-")
    os.makedirs(directory, exist_ok=True)
    log = GrowingLog(os.path.join(directory, "ratings.csv"), options.rate)
    cluster, small = start(options, directory, log)
    problems = []
    watch = Watch(cluster, options.trace)
    try:
        fill_up(options, cluster, watch, problems)
        log.goes_on.clear()
        stay_full(options, cluster, watch, problems)
        small = make_room(options, cluster, log, watch, problems)
        report(options, cluster, watch, problems)
    finally:
        log.close()
        cluster.run("down")
        small.terminate()
        small.wait()
        if not options.dir:
            shutil.rmtree(directory, ignore_errors=True)
    print("problems:", problems or "none")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
