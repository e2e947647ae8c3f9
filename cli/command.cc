// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

#include <fmt/format.h>

#include <cstdio>
#include <string_view>
#include <vector>

#include "base/version.h"

namespace freshet::cli {
namespace {

struct Command {
  const char* name;
  const char* summary;
  int (*run)(int argc, const char* const* argv);
};

constexpr Command kCommands[] = {
    {"train", "train a model on a file with a local cluster, from start to end", RunTrain},
    {"up", "start a long-running cluster in the background, or go on with one", RunUp},
    {"down", "drain a cluster and stop it", RunDown},
    {"status", "what a running cluster does, and its nodes", RunStatus},
    {"verify", "count whether every record has had its effect exactly once", RunVerify},
    {"checkpoint", "make everything applied so far durable", RunCheckpoint},
    {"scale", "change the number of servers or workers while it trains", RunScale},
    {"migrate", "move all of a server to a new one, which replaces it", RunMigrate},
    {"drain", "move what a node has to the others and end it", RunDrain},
    {"rebalance", "give every server an equal share", RunRebalance},
    {"cancel", "end a plan; what has moved stays where it is", RunCancel},
    {"backup", "copy a working cluster's state to a directory", RunBackup},
    {"restore", "make a new cluster's directory from a backup", RunRestore},
    {"events", "what happened in a running cluster", RunEvents},
    {"logs", "the log of a node", RunLogs},
    {"generate", "write click records with a known best possible AUC", RunGenerate},
};

std::string Help() {
  std::string out =
      "freshet keeps recommendation models fresh: parameter servers and workers that lose nothing "
      "and\ncount nothing twice.\n\nusage: freshet COMMAND [OPTION..]\n\n";
  for (const Command& command : kCommands) {
    out += fmt::format("  {:<12}{}\n", command.name, command.summary);
  }
  out += fmt::format("  {:<12}{}\n", "help", "this text; help COMMAND: that command's options");
  out += fmt::format("  {:<12}{}\n", "version", "the version of this program");
  out +=
      "\nA cluster lives in a directory: --dir, ./freshet-data unless told otherwise. -o json "
      "prints "
      "data\nonly, on stdout; words go to stderr. While it trains, the first SIGINT or SIGTERM "
      "drains "
      "the cluster,\na second one ends it at once.\nExit codes: 0 ok, 1 failed, 2 usage, 3 not "
      "found, "
      "4 conflict, 5 timeout, 69 unreachable, 128 + N ended\nby signal N.\n";
  return out;
}

// Started by other commands, not by people.
constexpr Command kHidden = {"supervise", "", RunSupervise};

const Command* FindCommand(std::string_view name) {
  if (name == kHidden.name) return &kHidden;
  for (const Command& command : kCommands) {
    if (name == command.name) return &command;
  }
  return nullptr;
}

int UnknownCommand(const std::string& name) {
  std::vector<std::string> names = {"help", "version"};
  for (const Command& command : kCommands) names.emplace_back(command.name);
  const std::optional<std::string> nearest = base::NearestName(name, names);
  return ReportError({base::ErrorCode::kInvalidArgument,
                      fmt::format("unknown command '{}'; {}see freshet help", name,
                                  nearest ? "did you mean '" + *nearest + "'? " : "")});
}

int RunHelp(int argc, const char* const* argv) {
  if (argc < 2) return PrintText(Help());
  const Command* command = FindCommand(argv[1]);
  if (command == nullptr) return UnknownCommand(argv[1]);
  const char* const arguments[] = {command->name, "--help", nullptr};
  return command->run(2, arguments);
}

}  // namespace

void ClusterOptions::Declare(base::ConfigFields& fields) {
  fields.Add("dir", &dir, "directory of the cluster");
  fields.Add("output", &output, "how data is printed").Short('o').OneOf({"text", "json"});
}

int ReportError(const base::Error& error) {
  fmt::print(stderr, "freshet: {}\n", error.message);
  return base::ExitCodeFor(error.code);
}

int PrintText(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return 0;
  return ReportError({base::ErrorCode::kIo, "cannot write to stdout"});
}

int PrintJson(const Json& json) { return PrintText(Pretty(json) + "\n"); }

int RunFreshet(int argc, const char* const* argv) {
  if (argc < 2) {
    fmt::print(stderr, "{}", Help());
    return base::ExitCodeFor(base::ErrorCode::kInvalidArgument);
  }
  const std::string_view name = argv[1];
  if (name == "help" || name == "--help" || name == "-h") return RunHelp(argc - 1, argv + 1);
  if (name == "version" || name == "--version") {
    return PrintText(fmt::format("freshet {}\n", base::Version()));
  }
  const Command* command = FindCommand(name);
  return command != nullptr ? command->run(argc - 1, argv + 1) : UnknownCommand(std::string(name));
}

}  // namespace freshet::cli
