# SPDX-License-Identifier: Apache-2.0
"""A cluster of `freshet up` as the drivers here see it."""

import json
import os
import signal
import subprocess
import sys
import time


def clean_up_when_told_to_end():
    """SIGTERM ends the program as an exception does, so that clusters are taken down."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


class Cluster:
    def __init__(self, binaries, directory, settings):
        self.bin = binaries
        self.dir = os.path.join(directory, "cluster")
        file = os.path.join(directory, "cluster.yaml")
        with open(file, "w", encoding="utf-8") as out:
            for key, value in settings.items():
                out.write(f"{key}: {value}\n")
        up = self.run("up", "-f", file)
        if up.returncode != 0:
            raise RuntimeError("freshet up: " + up.stderr)

    def run(self, *args):
        return subprocess.run([os.path.join(self.bin, "freshet"), *args, "--dir", self.dir],
                              capture_output=True, text=True, check=False)

    def status(self):
        """None: the master does not answer."""
        run = self.run("status", "-o", "json")
        return json.loads(run.stdout) if run.returncode == 0 else None

    def servers(self, status=None):
        nodes = (status or self.status())["nodes"]
        return {n["name"]: n for n in nodes if n["role"] == "ps"}

    def records_per_sec(self, seconds, until=lambda status: False):
        """Over `seconds`, or until a status of which `until` holds."""
        began, first = time.monotonic(), self.status()["job"]["records_done"]
        while True:
            time.sleep(0.25)
            status, now = self.status(), time.monotonic()
            if now - began >= seconds or until(status):
                return (status["job"]["records_done"] - first) / (now - began)

    def events(self, *kinds):
        with open(os.path.join(self.dir, "events.jsonl"), encoding="utf-8") as file:
            events = [json.loads(line) for line in file]
        return [e for e in events if not kinds or e["kind"] in kinds]

    def verify(self):
        run = self.run("verify", "-o", "json")
        return run.returncode == 0, run.stdout.strip().replace("\n", " ")
