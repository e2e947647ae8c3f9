// SPDX-License-Identifier: Apache-2.0
// What every command of `freshet` shares. A command takes the arguments from its own name on and
// returns the exit code; data goes to stdout, words for people to stderr.
#pragma once

#include <string>

#include "base/config.h"
#include "base/result.h"
#include "cli/json.h"

namespace freshet::cli {

struct ClusterOptions {
  std::string dir = "./freshet-data";
  std::string output = "text";

  void Declare(base::ConfigFields& fields);
  bool json() const { return output == "json"; }
};

// Says on stderr what went wrong; the exit code that belongs to it.
int ReportError(const base::Error& error);
// To stdout. The exit code: 0, or 1 if stdout cannot take it.
int PrintText(const std::string& text);
int PrintJson(const Json& json);

int RunUp(int argc, const char* const* argv);
int RunDown(int argc, const char* const* argv);
int RunSupervise(int argc, const char* const* argv);
int RunTrain(int argc, const char* const* argv);
int RunStatus(int argc, const char* const* argv);
int RunVerify(int argc, const char* const* argv);
int RunCheckpoint(int argc, const char* const* argv);
int RunScale(int argc, const char* const* argv);
int RunMigrate(int argc, const char* const* argv);
int RunDrain(int argc, const char* const* argv);
int RunRebalance(int argc, const char* const* argv);
int RunCancel(int argc, const char* const* argv);
int RunBackup(int argc, const char* const* argv);
int RunRestore(int argc, const char* const* argv);
int RunEvents(int argc, const char* const* argv);
int RunLogs(int argc, const char* const* argv);
int RunGenerate(int argc, const char* const* argv);

// The whole program: finds the command and runs it.
int RunFreshet(int argc, const char* const* argv);

}  // namespace freshet::cli
