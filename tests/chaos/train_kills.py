#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""freshet train with each server killed by SIGKILL again and again, against undisturbed runs.

Usage: train_kills.py BIN DATA [--schema movielens] [--model deepfm] [--epochs 60] [--ps 2]
       [--workers 2] [--kills 5] [--calm 3] [--seed 1] [--dir D]

Prints a table and exits with 1 unless every run ended with 0 and an exact audit, nobody but the killed
servers was restarted, and the AUC is within 0.005 of the undisturbed runs' median.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time


def status_of(options, directory):
    run = subprocess.run([os.path.join(options.bin, "freshet"), "status", "--dir", directory, "-o",
                          "json"], capture_output=True, text=True, check=False)
    try:
        return json.loads(run.stdout) if run.returncode == 0 else None
    except json.JSONDecodeError:
        return None


def start(options, directory):
    shutil.rmtree(directory, ignore_errors=True)
    return subprocess.Popen(
        [os.path.join(options.bin, "freshet"), "train", "--data", options.data, "--schema",
         options.schema, "--model", options.model, "--epochs", str(options.epochs), "--ps",
         str(options.ps), "--workers", str(options.workers), "--dir", directory, "-o", "json",
         *options.more], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def nodes_of(status):
    return {node["name"]: node for node in status["nodes"]}


def kill_all_servers(options, directory, train, draw):
    """How often who was killed; pids and incarnations of those that must not change."""
    plan = [f"ps-{i}" for i in range(options.ps)] * options.kills
    draw.shuffle(plan)
    killed = []
    first = None
    for name in plan:
        time.sleep(draw.uniform(0.2, options.pause))
        while train.poll() is None:
            status = status_of(options, directory)
            nodes = nodes_of(status) if status else {}
            well = [n for n in nodes.values() if n["state"] == "running"]
            if len(well) == options.ps + options.workers and status["job"]["phase"] == "training":
                break
            time.sleep(0.02)
        if train.poll() is not None:
            return killed, "the run ended before all kills"
        # Nobody changes but servers that were killed, and those only once a kill.
        who = {n: (v["pid"], v["incarnation"], v["restarts"]) for n, v in nodes.items()}
        if first is None:
            first = who
        for node, (pid, incarnation, restarts) in who.items():
            if restarts != killed.count(node):
                return killed, f"{node}: {restarts} restarts, killed {killed.count(node)} times"
            if node not in killed and (pid, incarnation) != first[node][:2]:
                return killed, f"{node} is another process than before"
        os.kill(who[name][0], signal.SIGKILL)
        killed.append(name)
    return killed, ""


def recoveries(directory):
    found = []
    with open(os.path.join(directory, "events.jsonl"), encoding="utf-8") as events:
        for line in events:
            event = json.loads(line)
            if event["kind"] in ("ps_serving", "ps_caught_up"):
                found.append(f"{event['node']}: {event['text']}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bin")
    parser.add_argument("data")
    for name, value in (("schema", "movielens"), ("model", "deepfm"), ("epochs", 60), ("ps", 2),
                        ("workers", 2), ("kills", 5), ("calm", 3), ("seed", 1), ("dir", "")):
        parser.add_argument("--" + name, type=type(value), default=value)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds, most, between kills")
    parser.add_argument("--more", nargs="*", default=[], help="further flags of freshet train")
    options = parser.parse_args()
    directory = options.dir or tempfile.mkdtemp(prefix="freshet-kills-")
    problems, calm = [], []
    for i in range(options.calm + 1):
        disturbed = i == options.calm
        train = start(options, directory)
        killed = []
        if disturbed:
            killed, problem = kill_all_servers(options, directory, train,
                                               random.Random(options.seed))
            problems += [problem] if problem else []
        out, _ = train.communicate()
        if train.returncode != 0:
            problems.append(f"ended with {train.returncode}")
            continue
        summary = json.loads(out)
        if not summary["audit"]["ok"]:
            problems.append(f"audit {summary['audit']}")
        if summary["restarts"] != len(killed):
            problems.append(f"{summary['restarts']} restarts, {len(killed)} kills")
        print(f"{'disturbed' if disturbed else 'calm':<10} records {summary['records']} auc "
              f"{summary['auc']:.4f} seconds {summary['seconds']:.1f} kills {len(killed)} restarts "
              f"{summary['restarts']} replayed {summary['replayed_records']} audit "
              f"{summary['audit']}", flush=True)
        if not disturbed:
            calm.append(summary["auc"])
            continue
        print("\n".join(recoveries(directory)))
        apart = abs(summary["auc"] - statistics.median(calm)) if calm else 0
        print(f"AUC is {apart:.4f} from the median of the calm runs, which spread over "
              f"{max(calm) - min(calm) if calm else 0:.4f}")
        if apart > 0.005:
            problems.append("the AUC is too far away")
    print("problems:", problems or "none")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
