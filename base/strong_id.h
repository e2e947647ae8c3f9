// SPDX-License-Identifier: Apache-2.0
// StrongId: an integer that cannot be mistaken for another one. Ordered, hashable, no arithmetic
// except Next().
#pragma once

#include <compare>
#include <cstddef>
#include <functional>

namespace freshet::base {

template <class Tag, class Integer>
class StrongId {
 public:
  using Value = Integer;

  constexpr StrongId() = default;
  constexpr explicit StrongId(Integer value) : value_(value) {}

  constexpr Integer value() const { return value_; }
  constexpr StrongId Next() const { return StrongId(static_cast<Integer>(value_ + 1)); }
  constexpr auto operator<=>(const StrongId&) const = default;

 private:
  Integer value_ = 0;
};

}  // namespace freshet::base

template <class Tag, class Integer>
struct std::hash<freshet::base::StrongId<Tag, Integer>> {
  std::size_t operator()(freshet::base::StrongId<Tag, Integer> id) const noexcept {
    return std::hash<Integer>()(id.value());
  }
};
