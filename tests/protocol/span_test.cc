// SPDX-License-Identifier: Apache-2.0
#include "protocol/span.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <set>
#include <tuple>
#include <vector>

namespace freshet::protocol {
namespace {

using Model = std::set<Offset>;
// {begin, length, what}: small numbers, so that spans meet.
using Step = std::tuple<uint8_t, uint8_t, uint8_t>;

Span SpanOf(const Step& step) {
  const Offset begin = std::get<0>(step) % 64;
  return {begin, begin + std::get<1>(step) % 12};
}

// One step in four removes.
void Apply(const Step& step, SpanSet* set, Model* model) {
  const Span span = SpanOf(step);
  const bool remove = std::get<2>(step) % 4 == 0;
  remove ? set->Remove(span) : set->Add(span);
  for (Offset o = span.begin; o < span.end; ++o) {
    if (remove) {
      model->erase(o);
    } else {
      model->insert(o);
    }
  }
}

struct Pair {
  SpanSet set;
  Model model;
};

Pair Build(const std::vector<Step>& steps) {
  Pair out;
  for (const Step& step : steps) Apply(step, &out.set, &out.model);
  return out;
}

Model Offsets(const SpanSet& set) {
  Model out;
  for (const Span& span : set.spans()) {
    for (Offset o = span.begin; o < span.end; ++o) out.insert(o);
  }
  return out;
}

void CheckForm(const SpanSet& set) {
  for (size_t i = 0; i < set.spans().size(); ++i) {
    RC_ASSERT(!set.spans()[i].empty());
    if (i > 0) RC_ASSERT(set.spans()[i].begin > set.spans()[i - 1].end);
  }
}

RC_GTEST_PROP(SpanSet, IsASetOfOffsets, (const std::vector<Step>& steps)) {
  Pair pair;
  for (const Step& step : steps) {
    Apply(step, &pair.set, &pair.model);
    CheckForm(pair.set);
    RC_ASSERT(Offsets(pair.set) == pair.model);
  }
  RC_ASSERT(pair.set.Count() == pair.model.size());
  RC_ASSERT(pair.set.empty() == pair.model.empty());
  for (Offset o = 0; o < 80; ++o) RC_ASSERT(pair.set.Contains(o) == pair.model.contains(o));
}

RC_GTEST_PROP(SpanSet, WatermarkIsTheFirstMissingOffset, (const std::vector<Step>& steps)) {
  const Pair pair = Build(steps);
  Offset expected = 0;
  while (pair.model.contains(expected)) ++expected;
  RC_ASSERT(pair.set.Watermark() == expected);
}

RC_GTEST_PROP(SpanSet, CompareTellsHowMuchOfASpanIsThere,
              (const std::vector<Step>& steps, const Step& other)) {
  const Pair pair = Build(steps);
  const Span span = SpanOf(other);
  RC_PRE(!span.empty());
  uint64_t there = 0;
  for (Offset o = span.begin; o < span.end; ++o) there += pair.model.count(o);
  const Overlap expected = there == 0             ? Overlap::kDisjoint
                           : there == span.size() ? Overlap::kContained
                                                  : Overlap::kPartial;
  RC_ASSERT(pair.set.Compare(span) == expected);
}

RC_GTEST_PROP(SpanSet, UnionAndIntersectionAreThoseOfSets,
              (const std::vector<Step>& first, const std::vector<Step>& second)) {
  const Pair a = Build(first);
  const Pair b = Build(second);
  Model common;
  Model all = a.model;
  all.insert(b.model.begin(), b.model.end());
  for (const Offset o : a.model) {
    if (b.model.contains(o)) common.insert(o);
  }
  const SpanSet both = a.set.Intersect(b.set);
  CheckForm(both);
  RC_ASSERT(Offsets(both) == common);
  RC_ASSERT(both == b.set.Intersect(a.set));
  SpanSet sum = a.set;
  sum.Add(b.set);
  CheckForm(sum);
  RC_ASSERT(Offsets(sum) == all);
}

RC_GTEST_PROP(SpanSet, GapsAreWhatIsMissing, (const std::vector<Step>& steps, const Step& other)) {
  const Pair pair = Build(steps);
  const Span within = SpanOf(other);
  Model missing;
  for (Offset o = within.begin; o < within.end; ++o) {
    if (!pair.model.contains(o)) missing.insert(o);
  }
  const SpanSet gaps = pair.set.Gaps(within);
  CheckForm(gaps);
  RC_ASSERT(Offsets(gaps) == missing);
}

RC_GTEST_PROP(SpanSet, ItsOwnSpansAreSound, (const std::vector<Step>& steps)) {
  const Pair pair = Build(steps);
  SpanSet copy;
  RC_ASSERT(SpanSet::FromSpans(pair.set.spans(), &copy));
  RC_ASSERT(copy == pair.set);
}

TEST(SpanSet, FromSpansRefusesWhatIsNotSound) {
  SpanSet set = {{0, 1}};
  EXPECT_FALSE(SpanSet::FromSpans({{3, 3}}, &set));
  EXPECT_TRUE(set.empty());
  EXPECT_FALSE(SpanSet::FromSpans({{3, 2}}, &set));
  EXPECT_FALSE(SpanSet::FromSpans({{0, 2}, {2, 3}}, &set));
  EXPECT_FALSE(SpanSet::FromSpans({{4, 5}, {0, 2}}, &set));
  EXPECT_FALSE(SpanSet::FromSpans({{0, 4}, {3, 5}}, &set));
  EXPECT_TRUE(SpanSet::FromSpans({{0, 2}, {3, 5}}, &set));
  EXPECT_EQ(set.ToString(), "{[0,2) [3,5)}");
}

// Applied sets: a set of offsets per log.
using Applied = std::map<uint16_t, Model>;
using LogStep = std::tuple<uint8_t, Step>;

std::pair<AppliedSets, Applied> BuildApplied(const std::vector<LogStep>& steps) {
  std::pair<AppliedSets, Applied> out;
  for (const auto& [log, step] : steps) {
    const uint16_t id = log % 5;
    Apply(step, &out.first.Mutable(LogId(id)), &out.second[id]);
  }
  return out;
}

RC_GTEST_PROP(AppliedSets, AreOneSetPerLog, (const std::vector<LogStep>& steps)) {
  const auto [sets, model] = BuildApplied(steps);
  for (uint16_t log = 0; log < 6; ++log) {
    const auto found = model.find(log);
    RC_ASSERT(Offsets(sets.Of(LogId(log))) == (found == model.end() ? Model() : found->second));
  }
  for (size_t i = 1; i < sets.logs().size(); ++i) {
    RC_ASSERT(sets.logs()[i - 1].log < sets.logs()[i].log);
  }
}

RC_GTEST_PROP(AppliedSets, MergeIsTheUnionOfEachLog,
              (const std::vector<LogStep>& first, const std::vector<LogStep>& second)) {
  auto [a, a_model] = BuildApplied(first);
  const auto [b, b_model] = BuildApplied(second);
  a.Merge(b);
  for (const auto& [log, offsets] : b_model) a_model[log].insert(offsets.begin(), offsets.end());
  for (uint16_t log = 0; log < 6; ++log) RC_ASSERT(Offsets(a.Of(LogId(log))) == a_model[log]);
}

TEST(AppliedSets, AMissingLogEqualsAnEmptyOne) {
  AppliedSets a;
  AppliedSets b;
  a.Mutable(LogId(3));
  EXPECT_TRUE(a == b);
  b.Mutable(LogId(3)).Add({0, 1});
  EXPECT_FALSE(a == b);
  a.Mutable(LogId(3)).Add({0, 1});
  EXPECT_TRUE(a == b);
}

}  // namespace
}  // namespace freshet::protocol
