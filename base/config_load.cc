// SPDX-License-Identifier: Apache-2.0
// Where the values come from: flags, environment, file; and the text of --help.
#include <fmt/format.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <utility>

#include "base/config.h"
#include "base/file.h"
#include "base/version.h"

namespace freshet::base {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;

std::string FlagName(std::string_view field) {
  std::string flag = "--";
  for (const char c : field) flag += c == '_' ? '-' : c;
  return flag;
}

std::string EnvironmentName(std::string_view field) {
  std::string name = "FRESHET_";
  for (const char c : field) name += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return name;
}

tl::unexpected<Error> Usage(std::string message) {
  return Fail(ErrorCode::kInvalidArgument, std::move(message));
}

std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates) {
  const auto nearest = NearestName(word, candidates);
  return nearest ? fmt::format("; did you mean {}?", *nearest) : "";
}

std::vector<std::string> SplitAtCommas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

// What one place says about one field.
struct Given {
  std::vector<std::string> values;
  std::string place;  // "--ps", "FRESHET_PS", "cluster.yaml:3: ps"
};

}  // namespace

// One call of LoadConfig.
class ConfigLoader {
 public:
  ConfigLoader(ConfigFields& fields, const ConfigOptions& options)
      : fields_(fields.fields_), options_(options) {}

  Result<LoadedConfig> Load(int argc, const char* const* argv);

 private:
  using GivenByField = std::map<const ConfigField*, Given>;

  Result<void> ReadFlags(int argc, const char* const* argv);
  Result<int> ReadFlag(int i, int argc, const char* const* argv);
  Result<int> ReadShortFlag(int i, int argc, const char* const* argv);
  Result<void> ReadFile(const std::string& path);
  Result<void> ReadEntry(const std::string& path, const YAML::Node& key, const YAML::Node& value);
  Result<void> StoreAll();
  Result<void> Record(const ConfigField& field, std::string flag, std::string value);
  bool ReadBuiltIn(std::string_view name);
  ConfigField* Find(std::string_view name);
  std::optional<std::string> Environment(const std::string& name) const;
  std::vector<std::string> FlagNames() const;
  static std::vector<std::string> LimitsOf(const ConfigField& field);
  std::string HelpText() const;
  std::string EffectiveText() const;
  std::string ExampleText() const;

  std::deque<ConfigField>& fields_;
  const ConfigOptions& options_;
  GivenByField flags_;
  GivenByField file_;
  std::vector<std::string> positional_;
  std::string config_file_;
  bool help_ = false;
  bool version_ = false;
  bool check_ = false;
  bool example_ = false;
};

Result<LoadedConfig> ConfigLoader::Load(int argc, const char* const* argv) {
  const std::string help = HelpText();  // before a value replaces a default
  const std::string example = ExampleText();
  const Result<void> flags = ReadFlags(argc, argv);
  if (help_) return LoadedConfig{.positional = {}, .print_and_exit = help};
  if (version_) {
    return LoadedConfig{.positional = {},
                        .print_and_exit = fmt::format("{} {}\n", options_.program, Version())};
  }
  if (example_) return LoadedConfig{.positional = {}, .print_and_exit = example};
  if (!flags) return tl::unexpected(flags.error());
  if (config_file_.empty()) config_file_ = Environment("FRESHET_CONFIG").value_or("");
  if (!config_file_.empty()) {
    if (Result<void> read = ReadFile(config_file_); !read) return tl::unexpected(read.error());
  }
  if (Result<void> stored = StoreAll(); !stored) return tl::unexpected(stored.error());
  if (positional_.size() > options_.max_positional) {
    const std::string& surplus = positional_[options_.max_positional];
    return Usage(
        fmt::format("unexpected word \"{}\"; {} takes {}", surplus, options_.program,
                    options_.max_positional == 0 ? "flags only" : options_.positional_help));
  }
  if (positional_.size() < options_.min_positional) {
    return Usage(
        fmt::format("something is missing: {} {}", options_.program, options_.positional_help));
  }
  if (options_.validate) {
    if (Result<void> valid = options_.validate(); !valid) return tl::unexpected(valid.error());
  }
  LoadedConfig loaded{.positional = std::move(positional_), .print_and_exit = {}};
  if (check_) loaded.print_and_exit = EffectiveText();
  return loaded;
}

Result<void> ConfigLoader::ReadFlags(int argc, const char* const* argv) {
  Result<void> outcome;
  // Goes on after an error, so that --help is seen wherever it stands.
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--") {
      positional_.insert(positional_.end(), argv + i + 1, argv + argc);
      break;
    }
    if (word.size() < 2 || word[0] != '-') {
      positional_.emplace_back(word);
      continue;
    }
    const Result<int> last =
        word[1] == '-' ? ReadFlag(i, argc, argv) : ReadShortFlag(i, argc, argv);
    if (last) {
      i = *last;
    } else if (outcome) {
      outcome = tl::unexpected(last.error());
    }
  }
  return outcome;
}

bool ConfigLoader::ReadBuiltIn(std::string_view name) {
  if (name == "help") return help_ = true;
  if (name == "version") return version_ = true;
  if (name == "check-config") return check_ = true;
  if (name == "example-config") return example_ = true;
  return false;
}

// Both readers return the index of the last word that belongs to the flag at `i`.
Result<int> ConfigLoader::ReadFlag(int i, int argc, const char* const* argv) {
  const std::string_view word = std::string_view(argv[i]).substr(2);
  const size_t equals = word.find('=');
  const std::string_view name = word.substr(0, equals);
  const std::string flag = fmt::format("--{}", name);
  if (equals == std::string_view::npos && ReadBuiltIn(name)) return i;

  ConfigField* field = Find(name);
  if (field == nullptr && name.starts_with("no-") && equals == std::string_view::npos) {
    ConfigField* negated = Find(name.substr(3));
    if (negated != nullptr && negated->shape_ == ConfigField::Shape::kSwitch) {
      return Record(*negated, flag, "false").map([i] { return i; });
    }
  }
  if (field == nullptr && name != "config") {
    return Usage(fmt::format("unknown flag {}{}", flag, DidYouMean(flag, FlagNames())));
  }
  std::string value;
  if (equals != std::string_view::npos) {
    value = word.substr(equals + 1);
  } else if (field != nullptr && field->shape_ == ConfigField::Shape::kSwitch) {
    value = "true";
  } else if (i + 1 < argc) {
    value = argv[++i];
  } else {
    return Usage(fmt::format("{} needs a value", flag));
  }
  if (field == nullptr) {
    config_file_ = value;
    return i;
  }
  return Record(*field, flag, std::move(value)).map([i] { return i; });
}

Result<int> ConfigLoader::ReadShortFlag(int i, int argc, const char* const* argv) {
  const std::string_view word = argv[i];
  const std::string flag(word.substr(0, 2));
  if (word == "-h") {
    help_ = true;
    return i;
  }
  for (const ConfigField& field : fields_) {
    if (field.short_ != word[1]) continue;
    if (field.shape_ == ConfigField::Shape::kSwitch) {
      if (word.size() > 2) return Usage(fmt::format("{} takes no value", flag));
      return Record(field, flag, "true").map([i] { return i; });
    }
    if (word.size() > 2) {
      return Record(field, flag, std::string(word.substr(2))).map([i] { return i; });
    }
    if (i + 1 >= argc) return Usage(fmt::format("{} needs a value", flag));
    return Record(field, flag, argv[i + 1]).map([i] { return i + 1; });
  }
  return Usage(fmt::format("unknown flag {}; {} --help lists the flags", word, options_.program));
}

Result<void> ConfigLoader::Record(const ConfigField& field, std::string flag, std::string value) {
  Given& given = flags_[&field];
  if (!given.values.empty() && field.shape_ != ConfigField::Shape::kList) {
    return Usage(fmt::format("{} is given twice; give it once", flag));
  }
  given.values.push_back(std::move(value));
  given.place = std::move(flag);
  return {};
}

Result<void> ConfigLoader::ReadFile(const std::string& path) {
  const Result<std::string> text = base::ReadFile(path, kMaxFileBytes);
  if (!text) return tl::unexpected(text.error());
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(*text);
    if (documents.size() > 1) return Usage(fmt::format("{} holds more than one document", path));
    if (documents.empty() || documents[0].IsNull()) return {};
    if (!documents[0].IsMap()) {
      return Usage(fmt::format("{} is no list of settings; write lines like ps: 2", path));
    }
    for (const auto& entry : documents[0]) {
      if (Result<void> read = ReadEntry(path, entry.first, entry.second); !read) return read;
    }
  } catch (const YAML::Exception& error) {
    return Usage(fmt::format("{}:{}: this is not YAML: {}", path, error.mark.line + 1, error.msg));
  }
  return {};
}

Result<void> ConfigLoader::ReadEntry(const std::string& path, const YAML::Node& key,
                                     const YAML::Node& value) {
  const std::string name = key.IsScalar() ? key.Scalar() : "?";
  Given given;
  given.place = fmt::format("{}:{}: {}", path, key.Mark().line + 1, name);
  const ConfigField* field = nullptr;
  std::vector<std::string> names;
  for (const ConfigField& candidate : fields_) {
    names.push_back(candidate.name_);
    if (candidate.name_ == name) field = &candidate;
  }
  if (field == nullptr) {
    return Usage(fmt::format("{}: unknown key{}", given.place, DidYouMean(name, names)));
  }
  if (value.IsScalar()) {
    given.values.push_back(value.Scalar());
  } else if (value.IsSequence() && field->shape_ == ConfigField::Shape::kList) {
    for (const YAML::Node& item : value) {
      if (!item.IsScalar()) return Usage(fmt::format("{}: give a list of words", given.place));
      given.values.push_back(item.Scalar());
    }
  } else {
    return Usage(fmt::format("{}: give {}", given.place,
                             field->shape_ == ConfigField::Shape::kList ? "a list" : "one value"));
  }
  if (!file_.emplace(field, given).second) {
    return Usage(fmt::format("{}: this key stands twice in the file", given.place));
  }
  return {};
}

Result<void> ConfigLoader::StoreAll() {
  for (ConfigField& field : fields_) {
    Given given;
    const std::string variable = EnvironmentName(field.name_);
    const std::string text = Environment(variable).value_or("");
    if (const auto flag = flags_.find(&field); flag != flags_.end()) {
      given = flag->second;
      field.origin_ = "flag";
    } else if (!text.empty()) {
      const bool list = field.shape_ == ConfigField::Shape::kList;
      given = {list ? SplitAtCommas(text) : std::vector{text}, variable};
      field.origin_ = "environment";
    } else if (const auto entry = file_.find(&field); entry != file_.end()) {
      given = entry->second;
      field.origin_ = "file";
    } else if (field.required_) {
      return Usage(
          fmt::format("{} is missing ({}); give it as a flag, as {} or as {} in the file "
                      "of --config",
                      FlagName(field.name_), field.help_, variable, field.name_));
    } else {
      continue;
    }
    if (Result<void> stored = field.store_(given.values); !stored) {
      return Usage(fmt::format("{}: {}", given.place, stored.error().message));
    }
  }
  return {};
}

ConfigField* ConfigLoader::Find(std::string_view name) {
  for (ConfigField& field : fields_) {
    if (FlagName(field.name_).substr(2) == name) return &field;
  }
  return nullptr;
}

// An empty variable counts as absent, as in most programs.
std::optional<std::string> ConfigLoader::Environment(const std::string& name) const {
  if (options_.environment) return options_.environment(name);
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

std::vector<std::string> ConfigLoader::FlagNames() const {
  std::vector<std::string> names = {"--help", "--version", "--config", "--check-config",
                                    "--example-config"};
  for (const ConfigField& field : fields_) names.push_back(FlagName(field.name_));
  return names;
}

std::vector<std::string> ConfigLoader::LimitsOf(const ConfigField& field) {
  std::vector<std::string> limits;
  if (!field.choices_.empty()) {
    limits.push_back(fmt::format("{}", fmt::join(field.choices_, ", ")));
  }
  if (!field.bounds_.empty()) limits.push_back(field.bounds_);
  return limits;
}

std::string ConfigLoader::HelpText() const {
  struct Line {
    std::string left, right;
  };
  std::vector<Line> lines;
  for (const ConfigField& field : fields_) {
    Line line{fmt::format("{} {}", FlagName(field.name_), field.value_), field.help_};
    if (field.short_ != 0) line.left = fmt::format("-{}, {}", field.short_, line.left);
    std::vector<std::string> notes = LimitsOf(field);
    if (field.shape_ == ConfigField::Shape::kList) notes.emplace_back("may be repeated");
    const std::string shown = field.show_();
    if (field.required_) {
      notes.emplace_back("required");
    } else if (shown != "\"\"" && shown != "[]" && shown != "false") {
      notes.push_back(fmt::format("default {}", shown));
    }
    if (!notes.empty()) line.right += fmt::format(" ({})", fmt::join(notes, "; "));
    lines.push_back(std::move(line));
  }
  lines.push_back({"--config FILE", "read settings from this YAML file"});
  lines.push_back({"--check-config", "print the settings in effect and end"});
  lines.push_back({"--example-config", "print a commented file with every setting and end"});
  lines.push_back({"--version", "print the version and end"});
  lines.push_back({"-h, --help", "print this text and end"});

  std::string out = fmt::format(
      "{} - {}\n\nUsage: {} [FLAG..]{}{}\n\n", options_.program, options_.description,
      options_.program, options_.positional_help.empty() ? "" : " ", options_.positional_help);
  for (const Line& line : lines) {
    fmt::format_to(std::back_inserter(out), "  {:<32} {}\n", line.left, line.right);
  }
  const std::string example = lines.size() > 5 ? fields_.front().name_ : "name";
  fmt::format_to(std::back_inserter(out),
                 "\nEach flag may also be set in the environment ({}) or in the file ({}: ..).\n"
                 "A flag beats the environment, which beats the file, which beats the default.\n",
                 EnvironmentName(example), example);
  return out;
}

std::string ConfigLoader::EffectiveText() const {
  std::string out;
  for (const ConfigField& field : fields_) {
    fmt::format_to(std::back_inserter(out), "{}: {}  # {}\n", field.name_, field.show_(),
                   field.origin_);
  }
  return out;
}

// A file as --config reads it: what must be given stands there, everything else as a comment.
std::string ConfigLoader::ExampleText() const {
  std::string out =
      "# Every setting. A line without its # sets the value; as it stands it shows the default.\n";
  for (const ConfigField& field : fields_) {
    std::vector<std::string> notes = LimitsOf(field);
    if (field.required_) notes.insert(notes.begin(), "required");
    fmt::format_to(std::back_inserter(out), "\n# {}{}\n", field.help_,
                   notes.empty() ? "" : fmt::format(" ({})", fmt::join(notes, "; ")));
    fmt::format_to(std::back_inserter(out), "{}{}: {}\n", field.required_ ? "" : "#", field.name_,
                   field.example_.empty() ? field.show_() : field.example_);
  }
  return out;
}

Result<LoadedConfig> LoadConfig(ConfigFields& fields, int argc, const char* const* argv,
                                const ConfigOptions& options) {
  return ConfigLoader(fields, options).Load(argc, argv);
}

void ForgetSettings() {
  std::vector<std::string> names;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (text.starts_with("FRESHET_")) names.emplace_back(text.substr(0, text.find('=')));
  }
  for (const std::string& name : names) ::unsetenv(name.c_str());
}

int ReportError(std::string_view program, const Error& error) {
  const std::string line = fmt::format("{}: {}\n", program, error.message);
  std::fputs(line.c_str(), stderr);
  return ExitCodeFor(error.code);
}

std::optional<int> LoadConfigOrReport(ConfigFields& fields, int argc, const char* const* argv,
                                      const ConfigOptions& options,
                                      std::vector<std::string>* positional) {
  Result<LoadedConfig> loaded = LoadConfig(fields, argc, argv, options);
  if (!loaded) return ReportError(options.program, loaded.error());
  if (loaded->print_and_exit) {
    std::fwrite(loaded->print_and_exit->data(), 1, loaded->print_and_exit->size(), stdout);
    return 0;
  }
  if (positional != nullptr) *positional = std::move(loaded->positional);
  return std::nullopt;
}

}  // namespace freshet::base
