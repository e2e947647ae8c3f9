// SPDX-License-Identifier: Apache-2.0
#include "master/backup_manifest.h"

#include <gtest/gtest.h>

namespace freshet::master {
namespace {

using base::ErrorCode;
using protocol::LogId;
using protocol::PartitionId;
using protocol::Tenure;

BackupManifest Sample() {
  BackupManifest manifest;
  manifest.cluster = protocol::ClusterId(0xFEDCBA9876543210ull);
  manifest.job = "clicks";
  manifest.unix_ms = 1'800'000'000'123;
  manifest.view = protocol::ViewNumber(12);
  manifest.partitions = 2;
  manifest.state = {1234, UINT64_MAX};
  manifest.settings = BackupPart{7, 0};
  manifest.files = {
      {PartitionId(0), "a.img", Tenure(3), 9, 100, 1, {{LogId(0), 50}, {LogId(2), 8}}},
      {PartitionId(1), "b.img", Tenure(4), UINT64_MAX, 200, 2, {{LogId(0), 40}}}};
  manifest.replay_from = LowestWatermarks(manifest.files);
  return manifest;
}

std::string Replaced(std::string text, const std::string& what, const std::string& with) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return at == std::string::npos ? text : text.replace(at, what.size(), with);
}

TEST(BackupManifest, SurvivesBeingWrittenAndRead) {
  const auto read = DecodeManifest(EncodeManifest(Sample()));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, Sample());
  BackupManifest without = Sample();
  without.settings.reset();
  EXPECT_EQ(*DecodeManifest(EncodeManifest(without)), without);
}

TEST(BackupManifest, ReplayBeginsAtTheLowestWatermarkAndAtZeroWhereAPartitionHasNone) {
  const auto lowest = LowestWatermarks(Sample().files);
  ASSERT_EQ(lowest.size(), 2u);
  EXPECT_EQ(lowest[0], (protocol::LogWatermark{LogId(0), 40}));
  EXPECT_EQ(lowest[1], (protocol::LogWatermark{LogId(2), 0}));
}

TEST(BackupManifest, WhatIsMissingOrOfTheWrongKindIsCorrupt) {
  const std::string good = EncodeManifest(Sample());
  const std::pair<const char*, const char*> wrong[] = {
      {"\"partitions\": 2", "\"partitions\": 3"},
      {"\"partitions\": 2", "\"partitions\": -2"},
      {"\"partitions\": 2", "\"partitions\": \"2\""},
      {"\"partitions\"", "\"particles\""},
      {"\"partition\": 1", "\"partition\": 0"},
      {"\"partition\": 1", "\"partition\": 70000"},
      {"\"file\": \"b.img\"", "\"file\": \"../b.img\""},
      {"\"file\": \"b.img\"", "\"file\": \"\""},
      {"\"file\": \"b.img\"", "\"file\": null"},
      {"fedcba9876543210", "fedcba987654321"},
      {"fedcba9876543210", "fedcba987654321x"},
      {"\"tenure\": 3", "\"tenure\": 3.5"},
      {"\"watermarks\": [", "\"watermarks\": [7,"},
      {"\"files\": [", "\"files\": [[],"},
  };
  for (const auto& [what, with] : wrong) {
    const auto read = DecodeManifest(Replaced(good, what, with));
    ASSERT_FALSE(read) << with;
    EXPECT_EQ(read.error().code, ErrorCode::kCorrupt) << with;
  }
  EXPECT_EQ(DecodeManifest("").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(DecodeManifest("[]").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(DecodeManifest("{}").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(DecodeManifest(Replaced(good, "\"format\": 1", "\"format\": 2")).error().code,
            ErrorCode::kInvalidArgument);
}

TEST(BackupManifest, NoByteOfItCanEndTheProcess) {
  const std::string good = EncodeManifest(Sample());
  size_t refused = 0;
  for (size_t at = 0; at < good.size(); ++at) {
    refused += DecodeManifest(good.substr(0, at)) ? 0 : 1;
    for (const char with : {'\0', '"', '[', '9', '\xFF'}) {
      std::string bad = good;
      bad[at] = with;
      (void)DecodeManifest(bad);
    }
  }
  EXPECT_GE(refused, good.size() - 2);
}

}  // namespace
}  // namespace freshet::master
