// SPDX-License-Identifier: Apache-2.0
// `freshet generate`: a log of clicks whose best possible AUC is known.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "base/runtime.h"
#include "stream/planted_model.h"

namespace freshet::stream {

enum class ExistingFile : uint8_t { kRefuse = 0, kReplace = 1 };

struct GeneratorOptions {
  uint64_t records = 1'000'000;
  // Of the stream that the seed defines: a second file that starts where the first one ends is new data
  // of the same world.
  uint64_t first_record = 0;
  PlantedOptions model{.fields = DefaultFields(), .pairs = DefaultPairs()};
  int64_t start_time_ms = 1'700'000'000'000;  // of record 0
  uint32_t interval_ms = 10;                  // between records
  ExistingFile existing = ExistingFile::kRefuse;
  const base::Clock* clock = nullptr;  // for `seconds`, which stays 0 without one
};

struct GeneratorSummary {
  uint64_t records = 0;
  uint64_t bytes = 0;
  double seconds = 0;
  // Of the planted model's own probabilities on the records written: what no learner can beat but by
  // chance. From a histogram of 4096 logit buckets; the error is below 0.0001.
  double best_auc = 0;
  double best_logloss = 0;
  double positive_rate = 0;
};

// Told now and then how many records are written.
using GeneratorProgress = std::function<void(uint64_t records)>;

// Writes tab-separated lines with a header, as the built-in schema `freshet` reads them when the fields
// are the default ones. The file appears whole, or not at all. kInvalidArgument: options that make no
// sense; kConflict: the file exists; kNotFound: its directory does not; kIo: it cannot be written.
base::Result<GeneratorSummary> GenerateLog(const GeneratorOptions& options, const std::string& path,
                                           const GeneratorProgress& progress);

// The schema of what these options write.
std::string GeneratorSchemaYaml(const GeneratorOptions& options);

}  // namespace freshet::stream
