// SPDX-License-Identifier: Apache-2.0
#include "protocol/view.h"

#include <set>

#include <fmt/format.h>

namespace freshet::protocol {

using base::ErrorCode;
using base::Fail;
using base::Result;

std::optional<uint16_t> View::FindNode(const std::string& name) const {
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].name == name) return static_cast<uint16_t>(i);
  }
  return std::nullopt;
}

const Table* View::FindTable(const std::string& name) const {
  for (const Table& table : tables) {
    if (table.schema.name == name) return &table;
  }
  return nullptr;
}

Result<> ValidateView(const View& view) {
  const auto bad = [](std::string what) {
    return Fail(ErrorCode::kInvalidArgument, "view refused: " + std::move(what));
  };
  if (view.places.empty()) return bad("no partitions");
  if (view.places.size() > kMaxPartitions) return bad("too many partitions");
  if (view.nodes.size() >= kNoNode) return bad("too many nodes");
  std::set<std::string> names;
  for (const ViewNode& node : view.nodes) {
    if (node.name.empty() || !names.insert(node.name).second) {
      return bad(fmt::format("node name '{}' is empty or there twice", node.name));
    }
  }
  for (size_t p = 0; p < view.places.size(); ++p) {
    const Place& place = view.places[p];
    const bool node_ok = place.node == kNoNode || place.node < view.nodes.size();
    const bool target_ok = place.target == kNoNode || place.target < view.nodes.size();
    if (!node_ok || !target_ok) return bad(fmt::format("partition {} is on an unknown node", p));
  }
  if (view.tables.size() > kMaxTables) return bad("too many tables");
  for (size_t i = 0; i < view.tables.size(); ++i) {
    if (view.tables[i].id.value() != i) return bad("table ids are not 0, 1, 2 ..");
    if (auto ok = ValidateTable(view.tables[i].schema); !ok) return bad(ok.error().message);
  }
  // Its rows are read as counters, whatever the view says.
  const bool audited =
      !view.tables.empty() && view.tables[kAuditTable.value()].schema == AuditTableSchema();
  if (!audited) return bad("the first table is not the audit's");
  return {};
}

}  // namespace freshet::protocol
