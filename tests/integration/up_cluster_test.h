// SPDX-License-Identifier: Apache-2.0
// UpClusterTest: what tests of a cluster of real processes have in common: a directory, a log, the
// cluster, and what its processes said when a test failed.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/base/temp_dir.h"
#include "tests/integration/up_cluster.h"

namespace freshet::testing {

class UpClusterTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (HasFailure()) GTEST_LOG_(INFO) << LogsUnder(dir_.path());
  }

  base::TempDir dir_;
  std::string data_ = dir_.path() + "/clicks.tsv";
  UpCluster cluster_{dir_.path()};
};

}  // namespace freshet::testing
