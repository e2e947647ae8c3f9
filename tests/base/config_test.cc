// SPDX-License-Identifier: Apache-2.0
#include "base/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/file.h"
#include "tests/base/temp_dir.h"

namespace freshet::base {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

// One field of every type, as a program would declare them.
struct Sample {
  bool follow = false;
  int ps = 1;
  uint32_t limit = 5;
  int64_t big = -1;
  double rate = 0.5;
  std::string master;
  std::string output = "text";
  std::vector<std::string> logs;
  std::chrono::milliseconds interval{10'000};
  ByteSize memory = MiB(64);

  void Declare(ConfigFields& f) {
    f.Add("follow", &follow, "wait at the end");
    f.Add("ps", &ps, {.min = 1, .max = 64}, "number of parameter servers");
    f.Add("limit", &limit, "a bound");
    f.Add("big", &big, "a large number");
    f.Add("rate", &rate, {.min = 0.0, .max = 1.0}, "learning rate");
    f.Add("master", &master, "address of the master");
    f.Add("output", &output, "how to print").OneOf({"text", "json"}).Short('o');
    f.Add("log_name", &logs, "a log to read").Short('l');
    f.Add("checkpoint_interval_ms", &interval, {.min = 100ms, .max = 1h}, "time between images");
    f.Add("memory", &memory, {.min = MiB(1)}, "memory for rows");
  }
};

class ConfigTest : public ::testing::Test {
 protected:
  Result<LoadedConfig> Load(std::vector<const char*> words) {
    words.insert(words.begin(), "program");
    ConfigFields fields;
    sample_.Declare(fields);
    if (declare_more_) declare_more_(fields);
    options_.program = "freshet-sample";
    options_.description = "shows how configuration works";
    options_.environment = [this](const std::string& name) -> std::optional<std::string> {
      const auto found = environment_.find(name);
      if (found == environment_.end()) return std::nullopt;
      return found->second;
    };
    return LoadConfig(fields, static_cast<int>(words.size()), words.data(), options_);
  }

  // The message of the usage error that loading must end in.
  std::string Refusal(std::vector<const char*> words) {
    const auto loaded = Load(std::move(words));
    if (loaded) return "(accepted)";
    EXPECT_EQ(ExitCodeFor(loaded.error().code), 2);
    return loaded.error().message;
  }

  std::string WriteConfig(const std::string& text) {
    std::string path = directory_ / "sample.yaml";
    EXPECT_TRUE(WriteFileAtomic(path, text));
    return path;
  }

  Sample sample_;
  ConfigOptions options_;
  std::function<void(ConfigFields&)> declare_more_;
  std::map<std::string, std::string> environment_;
  TempDir directory_;
};

TEST_F(ConfigTest, NothingGivenKeepsTheDefaults) {
  ASSERT_TRUE(Load({}));
  EXPECT_EQ(sample_.ps, 1);
  EXPECT_EQ(sample_.interval, 10s);
  EXPECT_EQ(sample_.memory, MiB(64));
}

TEST_F(ConfigTest, FlagsFillEveryType) {
  ASSERT_TRUE(Load({"--follow", "--ps", "2", "--limit=4294967295", "--big", "-7", "--rate", "0.25",
                    "--master=tcp://a:1", "-o", "json", "--log-name", "a", "-lb",
                    "--checkpoint-interval-ms", "500", "--memory", "2GiB"}));
  EXPECT_TRUE(sample_.follow);
  EXPECT_EQ(sample_.ps, 2);
  EXPECT_EQ(sample_.limit, 4294967295u);
  EXPECT_EQ(sample_.big, -7);
  EXPECT_EQ(sample_.rate, 0.25);
  EXPECT_EQ(sample_.master, "tcp://a:1");
  EXPECT_EQ(sample_.output, "json");
  EXPECT_THAT(sample_.logs, ElementsAre("a", "b"));
  EXPECT_EQ(sample_.interval, 500ms);
  EXPECT_EQ(sample_.memory, GiB(2));
}

TEST_F(ConfigTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const std::string file = WriteConfig("ps: 4\nlimit: 40\nbig: 400\n");
  environment_ = {{"FRESHET_PS", "3"}, {"FRESHET_LIMIT", "30"}};
  ASSERT_TRUE(Load({"--config", file.c_str(), "--ps", "2"}));
  EXPECT_EQ(sample_.ps, 2);
  EXPECT_EQ(sample_.limit, 30u);
  EXPECT_EQ(sample_.big, 400);
  EXPECT_EQ(sample_.rate, 0.5);
}

TEST_F(ConfigTest, TheFileMayBeNamedByTheEnvironment) {
  environment_ = {{"FRESHET_CONFIG", WriteConfig("ps: 4\n")}};
  ASSERT_TRUE(Load({}));
  EXPECT_EQ(sample_.ps, 4);
}

TEST_F(ConfigTest, EnvironmentSplitsListsAtCommas) {
  environment_ = {{"FRESHET_LOG_NAME", "a,b,,c"}, {"FRESHET_CHECKPOINT_INTERVAL_MS", "5s"}};
  ASSERT_TRUE(Load({}));
  EXPECT_THAT(sample_.logs, ElementsAre("a", "b", "", "c"));
  EXPECT_EQ(sample_.interval, 5s);
}

TEST_F(ConfigTest, AnEmptyEnvironmentVariableCountsAsAbsent) {
  environment_ = {{"FRESHET_PS", ""}};
  ASSERT_TRUE(Load({}));
  EXPECT_EQ(sample_.ps, 1);
}

TEST_F(ConfigTest, TheFileFillsEveryType) {
  const std::string file = WriteConfig(
      "# a comment\nfollow: yes\nrate: 1e-3\nmaster: 'tcp://a:1'\noutput: json\n"
      "log_name: [a, b]\ncheckpoint_interval_ms: 1m\nmemory: 16MiB\n");
  ASSERT_TRUE(Load({"--config", file.c_str()}));
  EXPECT_TRUE(sample_.follow);
  EXPECT_EQ(sample_.rate, 0.001);
  EXPECT_EQ(sample_.master, "tcp://a:1");
  EXPECT_THAT(sample_.logs, ElementsAre("a", "b"));
  EXPECT_EQ(sample_.interval, 1min);
  EXPECT_EQ(sample_.memory, MiB(16));
}

TEST_F(ConfigTest, AnEmptyFileIsFine) {
  const std::string file = WriteConfig("# nothing\n");
  ASSERT_TRUE(Load({"--config", file.c_str()}));
}

TEST_F(ConfigTest, SwitchesCanBeTurnedOff) {
  const std::string file = WriteConfig("follow: true\n");
  ASSERT_TRUE(Load({"--config", file.c_str(), "--no-follow"}));
  EXPECT_FALSE(sample_.follow);
  ASSERT_TRUE(Load({"--follow=true"}));
  EXPECT_TRUE(sample_.follow);
}

TEST_F(ConfigTest, AnUnknownFlagNamesTheNearest) {
  EXPECT_EQ(Refusal({"--chekpoint-interval-ms", "5"}),
            "unknown flag --chekpoint-interval-ms; did you mean --checkpoint-interval-ms?");
  EXPECT_EQ(Refusal({"--checkpoint_interval_ms", "5"}),
            "unknown flag --checkpoint_interval_ms; did you mean --checkpoint-interval-ms?");
  EXPECT_EQ(Refusal({"--zzzzzzzzz"}), "unknown flag --zzzzzzzzz");
  EXPECT_THAT(Refusal({"-x"}), HasSubstr("unknown flag -x"));
}

TEST_F(ConfigTest, AnUnknownKeyIsNamedWithFileAndLine) {
  const std::string file = WriteConfig("ps: 2\nmemroy: 1MiB\n");
  EXPECT_EQ(Refusal({"--config", file.c_str()}),
            file + ":2: memroy: unknown key; did you mean memory?");
}

TEST_F(ConfigTest, ValuesOfTheWrongTypeNameTheirPlace) {
  EXPECT_EQ(Refusal({"--ps", "two"}), "--ps: \"two\" is not a whole number");
  EXPECT_EQ(Refusal({"--ps", "2.5"}), "--ps: \"2.5\" is not a whole number");
  EXPECT_THAT(Refusal({"--rate", "nan"}), HasSubstr("\"nan\" is not a number"));
  EXPECT_THAT(Refusal({"--memory", "10MB"}), HasSubstr("is not a size like"));
  EXPECT_THAT(Refusal({"--follow=maybe"}), HasSubstr("is not true or false"));
  EXPECT_THAT(Refusal({"--checkpoint-interval-ms", "-5"}), HasSubstr("is not a duration"));
  environment_ = {{"FRESHET_PS", "x"}};
  EXPECT_EQ(Refusal({}), "FRESHET_PS: \"x\" is not a whole number");
  environment_.clear();
  const std::string file = WriteConfig("\n\nps: [1]\n");
  EXPECT_EQ(Refusal({"--config", file.c_str()}), file + ":3: ps: give one value");
}

TEST_F(ConfigTest, ValuesOutOfBoundsNameTheBounds) {
  EXPECT_EQ(Refusal({"--ps", "0"}), "--ps: 0 is out of bounds: give 1 to 64");
  EXPECT_EQ(Refusal({"--ps=65"}), "--ps: 65 is out of bounds: give 1 to 64");
  EXPECT_EQ(Refusal({"--limit", "-1"}), "--limit: -1 is out of bounds: give 0 to 4294967295");
  EXPECT_EQ(Refusal({"--limit", "4294967296"}),
            "--limit: 4294967296 is out of bounds: give 0 to 4294967295");
  EXPECT_EQ(Refusal({"--memory", "1KiB"}), "--memory: 1KiB is out of bounds: give at least 1MiB");
  EXPECT_EQ(Refusal({"--checkpoint-interval-ms", "2h"}),
            "--checkpoint-interval-ms: 7200000 is out of bounds: give 100 to 3600000");
  EXPECT_EQ(Refusal({"--rate", "1.5"}), "--rate: 1.5 is out of bounds: give 0 to 1");
}

TEST_F(ConfigTest, AWordThatIsNoChoiceListsTheChoices) {
  EXPECT_EQ(Refusal({"-o", "jsn"}),
            "-o: \"jsn\" is unknown, did you mean json?; give one of text, json");
}

TEST_F(ConfigTest, AFlagWithoutItsValueIsRefused) {
  EXPECT_EQ(Refusal({"--ps"}), "--ps needs a value");
  EXPECT_EQ(Refusal({"-o"}), "-o needs a value");
  EXPECT_EQ(Refusal({"--config"}), "--config needs a value");
}

TEST_F(ConfigTest, TheSameFlagTwiceIsRefused) {
  EXPECT_EQ(Refusal({"--ps", "1", "--ps", "2"}), "--ps is given twice; give it once");
}

TEST_F(ConfigTest, TheSameKeyTwiceIsRefused) {
  const std::string file = WriteConfig("ps: 2\nps: 3\n");
  EXPECT_EQ(Refusal({"--config", file.c_str()}),
            file + ":2: ps: this key stands twice in the file");
}

TEST_F(ConfigTest, AFileThatIsNoMapOrNoYamlIsRefused) {
  std::string file = WriteConfig("- ps\n");
  EXPECT_THAT(Refusal({"--config", file.c_str()}), HasSubstr("is no list of settings"));
  file = WriteConfig("ps: 1\nlimit: [1\n");
  EXPECT_THAT(Refusal({"--config", file.c_str()}), HasSubstr("this is not YAML"));
  file = WriteConfig(std::string("\x00\xff\x01", 3));
  EXPECT_THAT(Refusal({"--config", file.c_str()}), HasSubstr(file));
}

TEST_F(ConfigTest, AMissingFileIsNotFound) {
  const auto loaded = Load({"--config", "/nowhere/sample.yaml"});
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(loaded.error().message, HasSubstr("/nowhere/sample.yaml"));
}

TEST_F(ConfigTest, ARequiredFieldMustComeFromSomewhere) {
  std::string data;
  declare_more_ = [&](ConfigFields& f) { f.Add("data", &data, "what to read").Required(); };
  EXPECT_EQ(Refusal({}),
            "--data is missing (what to read); give it as a flag, as FRESHET_DATA or as data in "
            "the file of --config");
  environment_ = {{"FRESHET_DATA", "x.csv"}};
  ASSERT_TRUE(Load({}));
  EXPECT_EQ(data, "x.csv");
}

TEST_F(ConfigTest, PositionalWordsAreCounted) {
  EXPECT_THAT(Refusal({"node"}), HasSubstr("unexpected word \"node\""));
  options_.positional_help = "NODE";
  options_.min_positional = options_.max_positional = 1;
  const auto loaded = Load({"--ps", "2", "ps-0"});
  ASSERT_TRUE(loaded);
  EXPECT_THAT(loaded->positional, ElementsAre("ps-0"));
  EXPECT_THAT(Refusal({"a", "b"}), HasSubstr("unexpected word \"b\""));
  EXPECT_THAT(Refusal({}), HasSubstr("something is missing"));
  const auto dashed = Load({"--", "--ps"});
  ASSERT_TRUE(dashed);
  EXPECT_THAT(dashed->positional, ElementsAre("--ps"));
}

TEST_F(ConfigTest, HelpTellsFlagTypeBoundsDefaultAndEnvironment) {
  const auto loaded = Load({"--ps", "broken", "--help"});
  ASSERT_TRUE(loaded);
  const std::string& help = loaded->print_and_exit.value();
  EXPECT_THAT(help, HasSubstr("freshet-sample - shows how configuration works"));
  EXPECT_THAT(help, HasSubstr("--checkpoint-interval-ms MS      time between images "
                              "(100 to 3600000; default 10000)"));
  EXPECT_THAT(help, HasSubstr("-o, --output TEXT"));
  EXPECT_THAT(help, HasSubstr("text, json; default \"text\""));
  EXPECT_THAT(help, HasSubstr("FRESHET_FOLLOW"));
  EXPECT_TRUE(Load({"-h"})->print_and_exit);
}

TEST_F(ConfigTest, VersionIsPrinted) {
  EXPECT_THAT(Load({"--version"})->print_and_exit.value(), HasSubstr("freshet-sample 0."));
}

TEST_F(ConfigTest, CheckConfigShowsWhatIsInEffectAndFromWhere) {
  environment_ = {{"FRESHET_PS", "3"}};
  const auto loaded = Load({"--check-config", "--master", "a\"b"});
  ASSERT_TRUE(loaded);
  const std::string& text = loaded->print_and_exit.value();
  EXPECT_THAT(text, HasSubstr("ps: 3  # environment\n"));
  EXPECT_THAT(text, HasSubstr("master: \"a\\\"b\"  # flag\n"));
  EXPECT_THAT(text, HasSubstr("memory: 64MiB  # default\n"));
  const std::string file = WriteConfig(text);
  environment_.clear();
  sample_ = Sample();
  ASSERT_TRUE(Load({"--config", file.c_str()})) << "what it prints can be read again";
  EXPECT_EQ(sample_.master, "a\"b");
}

TEST_F(ConfigTest, ExampleShowsEverySettingAndCanBeReadWithAndWithoutItsComments) {
  std::string path;
  declare_more_ = [&path](ConfigFields& fields) {
    fields.Add("path", &path, "the file to read").Required().Example("clicks.tsv");
  };
  const auto loaded = Load({"--example-config", "--ps", "7"});
  ASSERT_TRUE(loaded);
  const std::string text = loaded->print_and_exit.value();
  EXPECT_THAT(text, HasSubstr("\n# number of parameter servers (1 to 64)\n#ps: 1\n"));
  EXPECT_THAT(text, HasSubstr("\n# the file to read (required)\npath: clicks.tsv\n"));
  EXPECT_THAT(text, HasSubstr("\n# how to print (text, json)\n#output: \"text\"\n"));
  std::string bare = text;
  for (size_t at = 0; (at = bare.find("\n#", at)) != std::string::npos;) {
    if (bare[at + 2] == ' ')
      ++at;
    else
      bare.erase(at + 1, 1);
  }
  EXPECT_THAT(bare, HasSubstr("\nps: 1\n"));
  for (const std::string& file : {text, bare}) {
    path.clear();
    const std::string written = WriteConfig(file);
    const auto read = Load({"--config", written.c_str()});
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(path, "clicks.tsv");
  }
}

TEST_F(ConfigTest, ValidationOfTheProgramRunsLast) {
  options_.validate = [this]() -> Result<void> {
    if (sample_.ps > 2) return Fail(ErrorCode::kInvalidArgument, "too many");
    return {};
  };
  EXPECT_EQ(Refusal({"--ps", "3", "--check-config"}), "too many");
  EXPECT_TRUE(Load({"--ps", "2"}));
}

TEST_F(ConfigTest, FlagsAreReadAfterTheNameOfTheSubCommand) {
  Sample sample;
  ConfigFields fields;
  sample.Declare(fields);
  const char* words[] = {"freshet", "scale", "--ps", "7"};
  ASSERT_TRUE(LoadConfig(fields, 3, words + 1, options_));
  EXPECT_EQ(sample.ps, 7);
}

TEST(ConfigDeathTest, ANameDeclaredTwiceIsAProgrammersError) {
  ConfigFields fields;
  int variable = 0;
  fields.Add("ps", &variable, "x");
  EXPECT_DEATH(fields.Add("ps", &variable, "x"), "CHECK failed");
  EXPECT_DEATH(fields.Add("help", &variable, "x"), "CHECK failed");
  EXPECT_DEATH(fields.Add("Bad-Name", &variable, "x"), "CHECK failed");
}

TEST(NearestNameTest, FindsOnlyWhatIsNear) {
  EXPECT_EQ(NearestName("chekpoint", {"restore", "checkpoint"}), "checkpoint");
  EXPECT_EQ(NearestName("ab", {"cd"}), std::nullopt);
  EXPECT_EQ(NearestName("anything", {}), std::nullopt);
}

}  // namespace
}  // namespace freshet::base
