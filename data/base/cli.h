// What all programs share: the common options, the exit codes, log, progress, signals.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/json.h"

namespace CLI {
class App;
}

namespace ultrasr {

class Progress;

/// Options of every program (programs.md 0).
struct CommonOptions {
    bool json = false;
    bool quiet = false;
    int threads = 0;  ///< always >= 1 once parsed
    std::uint64_t seed = 0;
    std::string device = "cpu";  ///< cpu, cuda or cuda:N
};

/// What a program prints on stdout: `object` under --json, else `text`.
struct Answer {
    std::string text;
    std::function<Json()> object;
};

/// What results.json says of the program.
struct ToolVersion {
    std::string version;
    std::string commit;
};
ToolVersion tool_version();

/// Adds the common options, parses, runs `work` and turns whatever happens into an exit code. An
/// app that has an option --config reads that file itself.
///
/// app      with its options bound and an example in its footer
/// options  receives the common options
/// work     called with a Progress that draws a bar on a terminal, a line every ten seconds
/// elsewhere returns  0, or the Fault's value, or 130 after SIGINT / SIGTERM
int run_tool(CLI::App& app, int argc, char** argv, CommonOptions& options,
             const std::function<Answer(Progress&)>& work);

/// For programs without a GPU path. throws Error(device) when another device than the CPU is asked
/// for.
void require_cpu(const CommonOptions& options, std::string_view program);

/// Adds an option that takes one of `words`; the help and the message list them.
///
/// now   the word shown as default
/// take  called with the word that was given
void add_word_option(CLI::App& app, const std::string& name, const std::vector<std::string>& words,
                     const std::string& now, const std::string& help,
                     const std::function<void(const std::string&)>& take);

/// The same for a value that the words stand for.
///
/// value  holds the default; receives what was chosen
/// words  must live as long as `app`
template <class Value>
void add_choice(CLI::App& app, const std::string& name, Value& value,
                const std::map<std::string, Value>& words, const std::string& help) {
    std::vector<std::string> known;
    std::string now;
    for (const auto& [word, meaning] : words) {
        known.push_back(word);
        if (meaning == value) now = word;
    }
    add_word_option(app, name, known, now, help,
                    [&value, &words](const std::string& word) { value = words.at(word); });
}

/// The options in force, by long name, as --config would read them; sub-commands nest.
Json resolved_options(const CLI::App& app);

/// The command line with absolute paths cut to their last part, so that results name no machine.
///
/// without   long options ("--shard") to leave out, with the value behind them
std::string portable_command_line(int argc, char** argv,
                                  const std::vector<std::string>& without = {});

}  // namespace ultrasr
