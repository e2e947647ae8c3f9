// SPDX-License-Identifier: Apache-2.0
#include "tests/chaos/trained_cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "stream/generator.h"

namespace freshet::chaos {

using base::ErrorCode;
using base::Fail;
using base::Result;
using cli::Json;
using testing::RecordsOf;

TrainedCluster::TrainedCluster(TrainingOptions options)
    : up(options.dir), options_(std::move(options)) {}

Result<> TrainedCluster::Start(const std::map<std::string, std::string>& more) {
  const std::string data = options_.dir + "/clicks.tsv";
  stream::GeneratorOptions generator{.records = options_.records};
  generator.model.seed = options_.seed;
  if (auto made = stream::GenerateLog(generator, data, {}); !made) {
    return tl::unexpected(made.error());
  }
  std::map<std::string, std::string> settings = more;
  settings.merge(std::map<std::string, std::string>{
      {"data", data},
      {"schema", "freshet"},
      {"model", options_.model},
      {"epochs", "1000000"},
      {"batch_size", std::to_string(options_.batch_size)},
      {"partitions", "64"},
      {"heartbeat_ms", "50"},
      {"node_timeout_ms", "1000"},
      {"hung_timeout_ms", "5000"},
      {"checkpoint_interval_ms", std::to_string(options_.checkpoint_interval_ms)}});
  const auto started = up.Up(settings);
  if (started.code != 0) return Fail(ErrorCode::kFailed, "freshet up: " + started.err);
  return AwaitFlow();
}

Result<> TrainedCluster::AwaitFlow() {
  const Json before = up.AwaitStatus([](const Json& s) { return RecordsOf(s) > 0; }, kPatience);
  if (before.is_null()) return Fail(ErrorCode::kTimeout, "records did not begin to flow");
  uint64_t least = RecordsOf(before);  // a server that came back has older rows for a while
  const Json after = up.AwaitStatus(
      [&](const Json& s) {
        least = std::min(least, RecordsOf(s));
        return RecordsOf(s) >= least + 10 * options_.batch_size;
      },
      kPatience);
  if (after.is_null()) return Fail(ErrorCode::kTimeout, "records did not flow");
  if (cli::TextAt(cli::At(after, "job"), "phase") != "training") {
    return Fail(ErrorCode::kFailed, "the log was too short");
  }
  return {};
}

Result<> TrainedCluster::Audit() {
  testing::CommandOutput audit;
  // Right after a fault a partition may be on its way back.
  const bool answered = up.Await(
      [&] {
        audit = up.Freshet({"verify", "-o", "json"});
        return audit.json().is_object() && audit.json().contains("ok");
      },
      kPatience);
  ++audits_;
  audit_ = audit.json().dump();
  if (!answered) return Fail(ErrorCode::kTimeout, "freshet verify: " + audit.err);
  if (audit.code != 0) return Fail(ErrorCode::kFailed, "the audit is not exact: " + audit.out);
  return {};
}

Result<> TrainedCluster::UpAgain() {
  const auto again = up.Freshet({"up"});
  if (again.code == 0) return {};
  return Fail(ErrorCode::kFailed,
              fmt::format("freshet up ended with {}: {}", again.code, again.err));
}

Result<> TrainedCluster::Down() {
  const auto down = up.Freshet({"down"});
  if (down.code == 0) return {};
  return Fail(ErrorCode::kFailed, "freshet down: " + down.err);
}

void TrainedCluster::Wait(std::chrono::milliseconds time) {
  up.Await([] { return false; }, time);
}

std::string TrainedCluster::AuditText() const {
  return fmt::format("audits: {}; the last one: {}\n", audits_, audit_);
}

}  // namespace freshet::chaos
