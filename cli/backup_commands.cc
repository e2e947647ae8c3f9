// SPDX-License-Identifier: Apache-2.0
// freshet backup: asks the master for one and follows it. freshet restore: is a mode of
// freshet-master, which knows what is in a cluster's directory.
#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/process.h"
#include "cli/admin_client.h"
#include "cli/command.h"
#include "cli/text.h"
#include "transport/event_loop.h"

namespace freshet::cli {
namespace {

using base::ErrorCode;

constexpr std::chrono::milliseconds kFollowInterval{200};
// A master that is restarted takes the backup with it; one that is only busy answers again.
constexpr std::chrono::milliseconds kPatience{30'000};

enum class Shown { kProgress, kNothing };

// Shows how far the backup is, on stderr: each tenth once.
class Progress {
 public:
  explicit Progress(Shown shown) : shown_(shown) {}

  void Show(const Json& backup) {
    const double partitions = NumberAt(backup, "partitions");
    const double copied = NumberAt(backup, "copied");
    const int tenth = partitions > 0 ? static_cast<int>(copied * 10 / partitions) : 0;
    if (shown_ == Shown::kNothing || tenth <= last_tenth_) return;
    last_tenth_ = tenth;
    fmt::print(stderr, "{:.0f} of {:.0f} partitions, {}\n", copied, partitions,
               BytesText(NumberAt(backup, "bytes")));
  }

 private:
  Shown shown_;
  int last_tenth_ = 0;
};

base::Result<Json> Follow(const AdminClient& client, const std::string& to, Progress progress) {
  transport::EventLoop loop;
  base::Instant answered = loop.clock().Now();
  for (;;) {
    base::Result<Json> backup = client.Get("/v1/backup");
    if (backup) {
      answered = loop.clock().Now();
      const std::string state = TextAt(*backup, "state");
      if (TextAt(*backup, "dir") != to) {
        return base::Fail(ErrorCode::kFailed,
                          fmt::format("the master was restarted, or led another backup since: {} "
                                      "holds no complete one; remove it and try again",
                                      to));
      }
      progress.Show(*backup);
      if (state == "ended") return backup;
      if (state == "failed") {
        const Json& error = At(*backup, "error");
        return base::Fail(CodeByName(TextAt(error, "code")), TextAt(error, "message"));
      }
    } else if (loop.clock().Now() - answered > kPatience) {
      return base::Fail(
          backup.error().code,
          fmt::format("{}; without its manifest.json {} is no backup", backup.error().message, to));
    }
    loop.RunUntil([] { return false; }, kFollowInterval);
  }
}

}  // namespace

int RunBackup(int argc, const char* const* argv) {
  ClusterOptions options;
  std::string to;
  base::ConfigFields fields;
  options.Declare(fields);
  fields
      .Add("to", &to,
           "directory to write to, not there yet or empty; the master and all servers must see it")
      .Required();
  const auto end = base::LoadConfigOrReport(
      fields, argc, argv,
      {.program = "freshet backup",
       .description = "Copies the state of a working cluster to a directory, from which freshet "
                      "restore makes a new cluster."});
  if (end) return *end;
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(to, error).lexically_normal();
  if (error || to.empty()) {
    return ReportError({ErrorCode::kInvalidArgument, fmt::format("--to '{}' is no path", to)});
  }
  if (!path.has_filename()) path = path.parent_path();
  const AdminClient client(options.dir);
  const base::Result<Json> begun = client.Post("/v1/backup", Json{{"to", path.string()}});
  if (!begun) return ReportError(begun.error());
  const base::Result<Json> done =
      Follow(client, path.string(), Progress(options.json() ? Shown::kNothing : Shown::kProgress));
  if (!done) return ReportError(done.error());
  if (options.json()) return PrintJson(*done);
  return PrintText(fmt::format("backup of {:.0f} partitions, {}, in {:.3f} s: {}\n",
                               NumberAt(*done, "partitions"), BytesText(NumberAt(*done, "bytes")),
                               NumberAt(*done, "seconds"), path.string()));
}

int RunRestore(int argc, const char* const* argv) {
  const base::Result<std::string> binaries = base::ExecutableDirectory();
  if (!binaries) return ReportError(binaries.error());
  std::vector<std::string> args = {"restore"};
  args.insert(args.end(), argv + 1, argv + argc);
  return ReportError(base::ReplaceProcess(*binaries + "/freshet-master", std::move(args)));
}

}  // namespace freshet::cli
