#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of the tree as a test: who may include whom, sizes, banned calls, dead files.

Usage: tidy.py ROOT. Prints one line per violation, `path:line: rule: words`, and exits with 1.
"""

import fnmatch
import os
import re
import sys
from typing import NamedTuple

import cpp_text

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70
MAX_MAIN_LINES = 60

PRODUCT = ("base", "protocol", "transport", "checkpoint", "stream", "ps", "worker", "master", "cli")
AROUND = ("tests", "benchmarks", "examples")
SCRIPTS = ("cmake", "deploy", "dev", ".ci", "CMakeLists.txt")

_MIDDLE = ("base", "protocol", "transport", "checkpoint", "stream")
MAY_INCLUDE = {
    "base": ("base",),
    "protocol": ("base", "protocol"),
    "transport": ("base", "protocol", "transport"),
    "checkpoint": ("base", "protocol", "checkpoint"),
    "stream": ("base", "protocol", "stream"),
    "ps": _MIDDLE + ("ps",),
    "worker": _MIDDLE + ("worker",),
    "master": _MIDDLE + ("master",),
    "cli": ("base", "protocol", "transport", "stream", "cli"),
}

# Each third party stays at the rim: (its headers, where they may be included).
THIRD_PARTIES = (
    (r"zmq(\.hpp|\.h|_addon\.hpp)", ("transport/*",)),
    (r"msgpack[./]", ("protocol/*",)),
    (r"lmdb\.h", ("checkpoint/*", "stream/*", "master/*store*")),
    (r"spdlog/", ("base/*",)),
    (r"(Eigen|unsupported/Eigen)/", ("ps/*", "worker/*")),
    (r"boost/(beast|asio)", ("master/*", "cli/*")),
    (r"yaml-cpp/", ("base/*", "stream/*")),
    (r"nlohmann/", ("base/*", "master/*", "cli/*")),
    (r"CLI/", ("base/*",)),
)

_CALL = r"(?<![\w.>])(?:std::|::)?"
# rule: (what it looks like in code, the folders it is banned from, what to do instead)
BANNED = {
    "clock": (
        r"\b(steady|system|high_resolution)_clock::now\b|\b(clock_gettime|gettimeofday)\s*\("
        r"|" + _CALL + r"time\s*\(\s*(nullptr|NULL|0|&)",
        PRODUCT + ("tests/sim",), "ask the Clock of base/runtime.h"),
    "sleep": (
        r"\bsleep_(for|until)\b|" + _CALL + r"(u|nano)?sleep\s*\(",
        PRODUCT + ("tests",), "use the Timers of base/runtime.h; a test waits for an event"),
    "chance": (
        r"\brandom_device\b|\bmt19937|\bgetrandom\s*\(|\barc4random|" + _CALL + r"s?rand\s*\(",
        PRODUCT + ("tests",), "draw from base::Random with a given seed"),
    "thread": (
        r"\bstd::(jthread|async)\b|\bstd::thread\b(?!::id)|\bpthread_create\b|\bthread_pool\b",
        PRODUCT + ("tests/sim",), "use the Executor of base/runtime.h"),
    "process": (
        _CALL + r"(v?fork|exec[lv]p?e?|posix_spawnp?|system|popen)\s*\(",
        PRODUCT + ("tests/sim",), "use base/process.h"),
    "stdout": (
        r"\bstd::(cout|printf|puts|putchar)\b|(?<![\w.>:])(printf|puts)\s*\("
        r"|\bstdout\b|\bfmt::print\s*\(\s*\"",
        tuple(f for f in PRODUCT if f != "cli"), "log with base/log.h"),
}


class Allowed(NamedTuple):
    rule: str
    path: str
    reason: str


# The one place where each of these may be. An entry that is not needed is a violation itself.
ALLOWED = (
    Allowed("clock", "transport/system_clock.cc", "it is the clock"),
    Allowed("chance", "transport/entropy.cc", "it draws the one seed of a process"),
    Allowed("thread", "transport/thread_executor.*", "it is the executor"),
    Allowed("thread", "transport/loop_thread.*", "the loop of programs that compute themselves"),
    Allowed("thread", "master/admin_server.cc", "HTTP is served beside the loop, which it posts to"),
    Allowed("include", "cli/train_options.cc",
            "checks --model-config before a process starts, with the parser of the worker"),
    Allowed("process", "base/process.cc", "it starts processes"),
    Allowed("stdout", "base/config_load.cc", "--help goes to stdout"),
    Allowed("stdout", "master/restore_command.cc", "is what freshet restore prints"),
)


class Violation(NamedTuple):
    path: str
    line: int
    rule: str
    words: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.words}"


class SourceFile:
    def __init__(self, root, path):
        self.path = path
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            self.text = file.read()
        self.lines = self.text.splitlines()
        self.folder = path.split("/")[0]
        self.is_cpp = path.endswith((".h", ".cc"))
        self.code = cpp_text.strip(self.text) if self.is_cpp else ""

    def under(self, folders):
        return any(self.path.startswith(folder + "/") for folder in folders)


def collect(root):
    """Every source file of the tree, in order; build folders and data are none."""
    paths = []
    for top in PRODUCT + AROUND + SCRIPTS:
        full = os.path.join(root, top)
        if os.path.isfile(full):
            paths.append(top)
        for directory, folders, names in os.walk(full):
            folders[:] = sorted(f for f in folders if f != "__pycache__")
            for name in sorted(names):
                if name.endswith((".h", ".cc", ".py", ".sh", ".cmake")) or name in (
                        "CMakeLists.txt", "run"):
                    paths.append(os.path.relpath(os.path.join(directory, name), root))
    return [SourceFile(root, path) for path in paths]


def allowance(rule, path, used):
    """Whether an entry of the allow-list covers it; it counts as used then."""
    for entry in ALLOWED:
        if entry.rule == rule and fnmatch.fnmatch(path, entry.path):
            used.add(entry)
            return True
    return False


def check_includes(file, known, used):
    for number, line in enumerate(file.lines, 1):
        quoted = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if quoted:
            target = quoted.group(1)
            allowed = MAY_INCLUDE.get(file.folder)
            if target not in known:
                yield Violation(file.path, number, "include",
                                f'"{target}" is no file of the tree; include from the root')
            elif (allowed and target.split("/")[0] not in allowed
                  and not allowance("include", file.path, used)):
                yield Violation(file.path, number, "include",
                                f'{file.folder}/ may not include "{target}"')
        angled = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
        if angled and file.folder in PRODUCT:
            for headers, places in THIRD_PARTIES:
                if re.match(headers, angled.group(1)) and not any(
                        fnmatch.fnmatch(file.path, place) for place in places):
                    yield Violation(file.path, number, "third-party",
                                    f"<{angled.group(1)}> belongs in {' '.join(places)}")


def check_sizes(file):
    limit = MAX_FILE_LINES
    if os.path.basename(file.path) == "main.cc" and file.folder in PRODUCT:
        limit = MAX_MAIN_LINES
    if len(file.lines) > limit:
        yield Violation(file.path, limit + 1, "file-length",
                        f"{len(file.lines)} lines, at most {limit} are allowed")
    if not file.is_cpp:
        return
    for name, first, count in cpp_text.functions(file.code):
        if count > MAX_FUNCTION_LINES:
            yield Violation(file.path, first, "function-length",
                            f"{name} has {count} lines, at most {MAX_FUNCTION_LINES} are allowed")


def check_banned(file, used):
    for rule, (pattern, folders, remedy) in BANNED.items():
        if not file.under(folders):
            continue
        for number, line in enumerate(file.code.splitlines(), 1):
            found = re.search(pattern, line)
            if found and not allowance(rule, file.path, used):
                yield Violation(file.path, number, rule,
                                f"'{found.group().strip()}' is banned here; {remedy}")


def check_form(file):
    head = file.lines[:2] if file.lines and file.lines[0].startswith("#!") else file.lines[:1]
    if file.path.endswith((".h", ".cc", ".py", ".sh")) or file.path in ("dev", ".ci/run"):
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
            yield Violation(file.path, 1, "licence", "the first line names the SPDX licence")
    if file.path.endswith(".h") and "#pragma once" not in file.lines:
        yield Violation(file.path, 1, "pragma-once", "a header has #pragma once")
    words = "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"))
    for number, line in enumerate(file.lines, 1):
        found = re.search(rf"\b({words})\b", line)
        if found:
            yield Violation(file.path, number, "unfinished", f"'{found.group()}' names a debt")


def words_of(cmake):
    """The words of a CMakeLists.txt, with those that a foreach(VARIABLE ITEM..) makes."""
    words = set(re.findall(r"[^\s()\"]+", cmake))
    for variable, items in re.findall(r"\bforeach\(\s*(\w+)\s+([^)]*)\)", cmake):
        for word in list(words):
            if f"${{{variable}}}" in word:
                words.update(word.replace(f"${{{variable}}}", item) for item in items.split())
    return words


def check_listed(file, cmake_words):
    """A .cc that no CMakeLists.txt at or above it names is never compiled."""
    if not file.path.endswith(".cc"):
        return
    folder = os.path.dirname(file.path)
    while folder:
        if os.path.relpath(file.path, folder) in cmake_words.get(folder, ()):
            return
        folder = os.path.dirname(folder)
    yield Violation(file.path, 1, "dead-file", "no CMakeLists.txt lists it")


def check_tree(root):
    files = collect(root)
    known = {file.path for file in files}
    cmake_words = {
        os.path.dirname(file.path): words_of(file.text)
        for file in files if os.path.basename(file.path) == "CMakeLists.txt"
    }
    violations = []
    used = set()
    for file in files:
        violations += check_sizes(file)
        violations += check_form(file)
        if file.is_cpp:
            violations += check_includes(file, known, used)
            violations += check_banned(file, used)
            violations += check_listed(file, cmake_words)
    return files, violations, used


def main():
    if len(sys.argv) != 2 or not os.path.isdir(os.path.join(sys.argv[1], "base")):
        sys.exit("usage: tidy.py ROOT, the folder that holds base/")
    files, violations, used = check_tree(sys.argv[1])
    violations += [Violation("tests/tidy/tidy.py", 1, "allow-list", f"{entry} is not needed")
                   for entry in ALLOWED if entry not in used]
    for violation in violations:
        print(violation)
    print(f"tidy: {len(files)} files, {len(violations)} violations")
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
