# SPDX-License-Identifier: Apache-2.0
"""Processes that get a part of a processor only: by a cgroup's quota, or stopped and continued in turns."""

import os
import signal
import threading
import time

CGROUPS = "/sys/fs/cgroup"


class Quota:
    """A cgroup of its own with a quota of processor time. Needs a cgroup file system that may be written."""

    QUOTA_US = 2000  # in periods that get the longer the smaller the share is

    def __init__(self, pid):
        self.unified = os.path.exists(os.path.join(CGROUPS, "cgroup.controllers"))
        root = CGROUPS if self.unified else os.path.join(CGROUPS, "cpu")
        self.path = os.path.join(root, f"freshet-slow-{pid}")
        self.root = root
        self.pid = pid
        os.mkdir(self.path)
        self._write(self.path, "cgroup.procs", str(pid))

    @staticmethod
    def _write(path, name, text):
        with open(os.path.join(path, name), "w", encoding="ascii") as file:
            file.write(text)

    def share(self, share):
        """Of one processor; 1 = as much as it wants."""
        quota, period = self.QUOTA_US, int(self.QUOTA_US / share)
        if share >= 1:
            quota, period = -1, 100_000
        if self.unified:
            self._write(self.path, "cpu.max", f"{'max' if quota < 0 else quota} {period}")
            return
        self._write(self.path, "cpu.cfs_quota_us", "-1")
        self._write(self.path, "cpu.cfs_period_us", str(period))
        self._write(self.path, "cpu.cfs_quota_us", str(quota))

    def close(self):
        try:
            self._write(self.root, "cgroup.procs", str(self.pid))
        except OSError:
            pass  # it has ended
        for _ in range(50):
            try:
                return os.rmdir(self.path)
            except OSError:
                time.sleep(0.02)
        return None


class Turns:
    """SIGSTOP and SIGCONT in turns: works everywhere, and is as exact as this machine's timers."""

    PERIOD_S = 0.04

    def __init__(self, pid):
        self.pid = pid
        self.on = 1.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def share(self, share):
        self.on = share

    def _signal(self, number):
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            self.ended.set()

    def _run(self):
        while not self.ended.is_set():
            on = self.on
            if on >= 1:
                time.sleep(self.PERIOD_S)
                continue
            self._signal(signal.SIGSTOP)
            time.sleep(self.PERIOD_S * (1 - on))
            self._signal(signal.SIGCONT)
            time.sleep(self.PERIOD_S * on)

    def close(self):
        self.ended.set()
        self.thread.join()
        self._signal(signal.SIGCONT)


def quota_works():
    try:
        root = CGROUPS
        if not os.path.exists(os.path.join(CGROUPS, "cgroup.controllers")):
            root = os.path.join(CGROUPS, "cpu")
        path = os.path.join(root, f"freshet-slow-{os.getpid()}")
        os.mkdir(path)
        works = any(os.path.exists(os.path.join(path, name)) for name in ("cpu.max", "cpu.cfs_quota_us"))
        os.rmdir(path)
        return works
    except OSError:
        return False
