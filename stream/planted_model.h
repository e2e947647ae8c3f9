// SPDX-License-Identifier: Apache-2.0
// PlantedModel: clicks drawn from a model that is known, so that learning can be judged.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace freshet::stream {

// One sparse field. Ids are drawn by rank with a Zipf law; an id's weight is normal with deviation
// `weight`, shrunk for ranks beyond `head` so that what can be learned is in what comes often.
struct PlantedField {
  std::string name;
  uint32_t cardinality = 1000;  // 1 to kMaxCardinality
  double weight = 0.3;
  uint32_t head = 100;
  bool renews = false;  // its ids are replaced by new ones over time
  bool drifts = false;  // its weights rotate over time
};
inline constexpr uint32_t kMaxCardinality = 1 << 24;

// A weight of deviation `weight` for each pair of ids of two fields.
struct PlantedPair {
  uint32_t first = 0;
  uint32_t second = 0;
  double weight = 0.1;
};

struct PlantedOptions {
  uint64_t seed = 1;
  std::vector<PlantedField> fields;
  std::vector<PlantedPair> pairs;
  double bias = -0.9;
  double zipf_exponent = 1.2;
  uint64_t new_items_per_million = 2000;      // of each field that renews; 0 = none
  uint64_t drift_period_records = 8'000'000;  // for one full turn of the weights; 0 = no drift
};

// What `freshet generate` writes unless told otherwise.
std::vector<PlantedField> DefaultFields();
std::vector<PlantedPair> DefaultPairs();

struct Click {
  std::vector<uint64_t> ids;  // one a field
  uint32_t price_cents = 0;
  uint32_t age_days = 0;
  uint32_t quality_thousandths = 0;
  float logit = 0;  // of the planted model
  uint32_t clicked = 0;
};

// Record i is a function of (seed, i), whoever draws it in whatever order. Immutable after it is built;
// any thread may draw.
class PlantedModel {
 public:
  explicit PlantedModel(PlantedOptions options);

  void Draw(uint64_t record, Click& click) const;

 private:
  // Walker's alias method: one draw is one random number and one or two cells.
  struct Cell {
    uint32_t threshold = 0;
    uint32_t alias = 0;
  };
  struct Field {
    std::vector<Cell> cells;
    uint64_t seed = 0;
    float weight = 0;
    float inverse_head = 0;
    bool drifts = false;
    uint64_t lifetime_records = 0;  // of an id; 0 = for ever
  };

  static std::vector<Cell> ZipfCells(uint32_t cardinality, double exponent);
  // Which id of its line of successors has the rank now.
  static uint64_t GenerationOf(const Field& field, uint32_t rank, uint64_t record);
  float WeightOf(const Field& field, uint32_t rank, uint64_t id, uint64_t record) const;

  PlantedOptions options_;
  std::vector<Field> fields_;
};

}  // namespace freshet::stream
