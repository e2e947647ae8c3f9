// SPDX-License-Identifier: Apache-2.0
// View: who serves which partition, as the master wrote it down. The only control message (rule G7).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/ids.h"
#include "protocol/table_schema.h"

namespace freshet::protocol {

// A PS by its name; which process that is now, and where it listens. incarnation 0 = none registered.
struct ViewNode {
  std::string name;
  Incarnation incarnation;
  std::string address;

  static auto Fields(auto& self, auto&& f) { return f(self.name, self.incarnation, self.address); }
  bool operator==(const ViewNode&) const = default;
};

inline constexpr uint16_t kNoNode = 0xFFFF;

// Where one partition is; `node` is an index into View::nodes. migration 0 = no intent.
struct Place {
  uint16_t node = kNoNode;
  Tenure tenure;
  MigrationId migration;
  uint16_t target = kNoNode;

  static auto Fields(auto& self, auto&& f) {
    return f(self.node, self.tenure, self.migration, self.target);
  }
  bool operator==(const Place&) const = default;
};

// Immutable once published; a receiver ignores a view whose number is not above the last one it took.
struct View {
  ViewNumber number;
  std::vector<ViewNode> nodes;
  std::vector<Place> places;  // one per partition
  std::vector<Table> tables;  // in order of id

  static auto Fields(auto& self, auto&& f) {
    return f(self.number, self.nodes, self.places, self.tables);
  }
  uint32_t partitions() const { return static_cast<uint32_t>(places.size()); }
  // Index into `nodes`; nothing if there is no such name.
  std::optional<uint16_t> FindNode(const std::string& name) const;
  const Table* FindTable(const std::string& name) const;
  bool operator==(const View&) const = default;
};

// What a view from a peer must satisfy before it is used: indices in range, names and tables sound.
base::Result<> ValidateView(const View& view);

}  // namespace freshet::protocol
