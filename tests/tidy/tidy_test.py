#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each rule of tidy.py finds a planted violation, and leaves its look-alikes alone."""

import os
import tempfile
import unittest

import cpp_text
import tidy

LICENCE = "// SPDX-License-Identifier: Apache-2.0\n"
HEADER = LICENCE + "#pragma once\n"


class Tree:
    """A small tree of files that breaks no rule until something is planted."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._sources = {}
        for folder in tidy.PRODUCT:
            self.write(f"{folder}/thing.h", HEADER)

    def remove(self):
        self._folder.cleanup()

    def write(self, path, text):
        full = os.path.join(self._folder.name, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)

    def write_cc(self, path, code):
        self.write(path, LICENCE + code)
        folder, name = os.path.split(path)
        self._sources.setdefault(folder, []).append(name)
        self.write(f"{folder}/CMakeLists.txt",
                   f"freshet_library(x SOURCES {' '.join(self._sources[folder])})\n")

    def violations(self):
        return [(v.path, v.line, v.rule) for v in tidy.check_tree(self._folder.name)[1]]


class RuleTest(unittest.TestCase):
    def setUp(self):
        self.tree = Tree()
        self.addCleanup(self.tree.remove)

    def expect(self, *violations):
        self.assertEqual(self.tree.violations(), list(violations))

    def test_a_clean_tree_has_no_violation(self):
        self.tree.write_cc("ps/a.cc", '#include "base/thing.h"\n#include <Eigen/Core>\nint F();\n')
        self.expect()

    def test_includes_go_down_only(self):
        self.tree.write_cc("base/a.cc", '#include "ps/thing.h"\n')
        self.tree.write_cc("stream/a.cc", '#include "checkpoint/thing.h"\n')
        self.tree.write_cc("ps/a.cc", '#include "transport/thing.h"\n#include "worker/thing.h"\n')
        self.tree.write_cc("cli/a.cc", '#include "stream/thing.h"\n#include "master/thing.h"\n')
        self.tree.write("worker/client/api.h", HEADER + '#include "worker/thing.h"\n')
        self.tree.write_cc("tests/ps/a_test.cc", '#include "ps/thing.h"\n#include "master/thing.h"\n')
        self.expect(("base/a.cc", 2, "include"), ("stream/a.cc", 2, "include"),
                    ("ps/a.cc", 3, "include"), ("cli/a.cc", 3, "include"))

    def test_includes_start_at_the_root(self):
        self.tree.write_cc("ps/a.cc", '#include "thing.h"\n')
        self.expect(("ps/a.cc", 2, "include"))

    def test_third_parties_stay_at_their_rim(self):
        planted = {"zmq.h": "ps", "zmq.hpp": "base", "msgpack.hpp": "transport", "lmdb.h": "master",
                   "spdlog/spdlog.h": "ps", "Eigen/Core": "master", "boost/beast/core.hpp": "ps",
                   "boost/asio/post.hpp": "transport", "yaml-cpp/yaml.h": "cli",
                   "nlohmann/json.hpp": "ps", "CLI/CLI.hpp": "cli"}
        for number, (header, folder) in enumerate(planted.items()):
            self.tree.write(f"{folder}/x{number:02}.h", f"{HEADER}#include <{header}>\n")
        self.tree.write("master/state_store.h", f"{HEADER}#include <lmdb.h>\n")
        self.tree.write("transport/fine.h", f"{HEADER}#include <zmq.h>\n")
        self.tree.write("tests/x.h", f"{HEADER}#include <zmq.h>\n")
        self.assertEqual(
            sorted(self.tree.violations()),
            sorted((f"{folder}/x{number:02}.h", 3, "third-party")
                   for number, folder in enumerate(planted.values())))

    def test_files_have_500_lines_at_most(self):
        self.tree.write("ps/a.h", HEADER + "\n" * 498)
        self.tree.write("ps/b.h", HEADER + "\n" * 499)
        self.expect(("ps/b.h", 501, "file-length"))

    def test_a_main_has_60_lines_at_most(self):
        self.tree.write_cc("ps/main.cc", "\n" * 60)
        self.expect(("ps/main.cc", 61, "file-length"))

    def test_functions_have_70_lines_at_most(self):
        self.tree.write_cc("ps/a.cc", "void F() {\n" + "  G();\n" * 68 + "}\n")
        self.tree.write_cc("ps/b.cc", "void F() {\n" + "  G();\n" * 69 + "}\n")
        self.expect(("ps/b.cc", 2, "function-length"))

    def test_banned_calls(self):
        planted = {
            "clock": ["std::chrono::steady_clock::now()", "clock_gettime(CLOCK_REALTIME, &t)",
                      "std::time(nullptr)"],
            "sleep": ["std::this_thread::sleep_for(1s)", "usleep(5)", "::sleep(1)"],
            "chance": ["std::random_device d", "rand()", "std::mt19937 g", "getrandom(p, 8, 0)"],
            "thread": ["std::thread t", "std::async(F)", "std::jthread t"],
            "process": ["fork()", "::execvp(a, b)", "std::system(a)", "popen(a, b)"],
            "stdout": ["std::cout << 1", 'printf("x")', "std::fwrite(p, 1, n, stdout)",
                       'fmt::print("x")', "std::puts(x)"],
        }
        expected = []
        for rule, calls in planted.items():
            for number, call in enumerate(calls):
                self.tree.write(f"ps/{rule}{number}.h", f"{HEADER}auto x = [] {{ {call}; }};\n")
                expected.append((f"ps/{rule}{number}.h", 3, rule))
        self.assertEqual(sorted(self.tree.violations()), sorted(expected))

    def test_look_alikes_of_banned_calls_are_fine(self):
        self.tree.write("ps/a.h", HEADER + "\n".join([
            "// std::thread and rand() are only talked about; time(nullptr) too",
            'auto a = "sleep(1) std::cout printf(";',
            "auto b = clock.Now(); loop.fork(); x->system(y); operand(1); std::thread::id c;",
            "auto d = options.stdout_file; snprintf(e, 1, f); fmt::print(stderr, g); Strand(1);",
            'auto h = R"(fork())"; int64_t sleeps = 1\'000; write_time(0); downtime(0);', ""]))
        self.expect()

    def test_tests_may_use_threads_but_not_sleep(self):
        self.tree.write("tests/ps/a.h", HEADER + "std::thread t;\nvoid F() { usleep(1); }\n")
        self.tree.write("tests/sim/a.h", HEADER + "std::thread t;\n")
        self.expect(("tests/ps/a.h", 4, "sleep"), ("tests/sim/a.h", 3, "thread"))

    def test_the_allow_list_covers_its_place_only(self):
        call = "auto t = std::chrono::steady_clock::now();\n"
        self.tree.write_cc("transport/system_clock.cc", call)
        self.tree.write_cc("transport/other_clock.cc", call)
        self.expect(("transport/other_clock.cc", 2, "clock"))

    def test_licence_pragma_and_unfinished_words(self):
        self.tree.write("ps/a.h", "#pragma once\n")
        self.tree.write("ps/b.h", LICENCE)
        self.tree.write("ps/c.h", HEADER + "// TO" + "DO: later\n")
        self.tree.write("ps/d.h", HEADER + "// mkstemp(XXXXXX)\n")
        self.tree.write("deploy/a.sh", "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n")
        self.expect(("ps/a.h", 1, "licence"), ("ps/b.h", 1, "pragma-once"),
                    ("ps/c.h", 3, "unfinished"))

    def test_a_source_file_is_listed(self):
        self.tree.write_cc("ps/a.cc", "")
        self.tree.write("ps/b.cc", LICENCE)
        self.tree.write("ps/sub/c.cc", LICENCE)
        self.tree.write("worker/model/d.cc", LICENCE)
        self.tree.write("worker/CMakeLists.txt", "freshet_library(m SOURCES model/d.cc)\n")
        self.tree.write("tests/ps/a_test.cc", LICENCE)
        self.tree.write("tests/ps/b_test.cc", LICENCE)
        self.tree.write("tests/ps/CMakeLists.txt",
                        "foreach(name a c)\n  freshet_test(${name} SOURCES ${name}_test.cc)\n")
        self.expect(("ps/b.cc", 1, "dead-file"), ("ps/sub/c.cc", 1, "dead-file"),
                    ("tests/ps/b_test.cc", 1, "dead-file"))


class FunctionTest(unittest.TestCase):
    def names(self, code):
        return [(name, first, count)
                for name, first, count in cpp_text.functions(cpp_text.strip(code))]

    def test_members_constructors_and_lambdas(self):
        self.assertEqual(self.names("""namespace a::b {
namespace {
struct S : Base<int(void)> {
  explicit S(int a) : a_{a}, b_(F({1})) {
    G([&] {
      H();
    });
  }
  int get() const { return a_; }
  std::vector<int> values = {1, 2};
  std::array<int, 2> more{{1, 2}};
};
template <class T>
  requires std::integral<T>
T Add(T a, Options options = {}) noexcept {
  return a;
}
constexpr int kTable[] = {
  1,
};
}  // namespace
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* d, size_t n) {
  return 0;
}
bool operator==(const S& a, const S& b) { return true; }
enum class E : uint8_t { kA, kB };
}  // namespace a::b
"""), [("S", 4, 5), ("get", 9, 1), ("Add", 15, 3), ("LLVMFuzzerTestOneInput", 22, 3),
       ("operator==", 25, 1)])

    def test_literals_comments_and_macros_do_not_confuse_the_count(self):
        self.assertEqual(self.names("""#define M(x) \\
  if (x) {   \\
    F();
// void A() {
/* { */
void B() {
  const char* a = "}{";  // }
  char b = '{', c = '\\'', d = '"';
  int e = 1'000'000;
  auto f = R"x(}}")x";
}
TEST(Name, Works) {
}
"""), [("B", 6, 6), ("TEST", 12, 2)])


if __name__ == "__main__":
    unittest.main()
