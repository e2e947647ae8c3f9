// SPDX-License-Identifier: Apache-2.0
// The schemas that come with freshet, as the YAML a user would write.
#include "stream/schema.h"

namespace freshet::stream {
namespace {

struct Builtin {
  const char* name;
  const char* yaml;
};

constexpr Builtin kBuiltins[] = {
    {"criteo", R"(# Criteo display advertising: 40 tab-separated columns without a header.
name: criteo
delimiter: tab
header: false
quotes: false
columns:
  - {name: label, role: label}
  # A count becomes a sparse field by floor(ln(v)^2), and stays a dense value as ln(1 + v).
  - {name: I1..I13, role: dense, log1p: true, bucketize: log_squared, keep_dense: true}
  - {name: C1..C26, role: sparse}
)"},
    {"criteo-csv",
     R"(# Criteo data in the form with a header: label,I1..I13,C1..C26, with or without Id.
name: criteo-csv
delimiter: comma
header: true
columns:
  - {name: Id, role: ignored, optional: true}
  - {name: label, role: label}
  - {name: I1..I13, role: dense, log1p: true, bucketize: log_squared, keep_dense: true}
  - {name: C1..C26, role: sparse}
)"},
    {"movielens", R"(# MovieLens ratings.csv: who liked what.
name: movielens
delimiter: comma
header: true
columns:
  - {name: userId, role: sparse}
  - {name: movieId, role: sparse}
  - {name: rating, role: label, threshold: 4.0}
  - {name: timestamp, role: timestamp, format: unix}
)"},
    {"avazu", R"(# Avazu click-through data: 24 columns with a header.
name: avazu
delimiter: comma
header: true
columns:
  - {name: id, role: ignored}
  - {name: click, role: label}
  - {name: hour, role: timestamp, format: yymmddhh, hour_of_day: true}
  - {name: C1, role: sparse}
  - {name: banner_pos, role: sparse}
  - {name: site_id, role: sparse}
  - {name: site_domain, role: sparse}
  - {name: site_category, role: sparse}
  - {name: app_id, role: sparse}
  - {name: app_domain, role: sparse}
  - {name: app_category, role: sparse}
  - {name: device_id, role: sparse}
  - {name: device_ip, role: sparse}
  - {name: device_model, role: sparse}
  - {name: device_type, role: sparse}
  - {name: device_conn_type, role: sparse}
  - {name: C14..C21, role: sparse}
)"},
    {"freshet", R"(# What `freshet generate` writes with its default fields.
name: freshet
delimiter: tab
header: true
quotes: false
columns:
  - {name: click, role: label}
  - {name: time_ms, role: timestamp, format: unix_ms}
  - {name: user, role: sparse}
  - {name: item, role: sparse}
  - {name: category, role: sparse}
  - {name: brand, role: sparse}
  - {name: query, role: sparse}
  - {name: campaign, role: sparse}
  - {name: site, role: sparse}
  - {name: city, role: sparse}
  - {name: device, role: sparse}
  - {name: position, role: sparse}
  - {name: price, role: dense, log1p: true}
  - {name: age_days, role: dense, log1p: true}
  - {name: quality, role: dense}
)"}};

}  // namespace

const std::vector<std::string>& BuiltinSchemaNames() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Builtin& builtin : kBuiltins) all.emplace_back(builtin.name);
    return all;
  }();
  return names;
}

std::string BuiltinSchemaYaml(std::string_view name) {
  for (const Builtin& builtin : kBuiltins) {
    if (name == builtin.name) return builtin.yaml;
  }
  return "";
}

}  // namespace freshet::stream
