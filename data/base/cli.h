// What all programs share: the common options, the exit codes, log, progress, signals.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
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

/// Adds the common options, parses, runs `work` and turns whatever happens into an exit code.
///
/// app      with its options bound and an example in its footer
/// options  receives the common options
/// work     called with a Progress that draws a bar on a terminal, a line every ten seconds
/// elsewhere returns  0, or the Fault's value, or 130 after SIGINT / SIGTERM
int run_tool(CLI::App& app, int argc, char** argv, CommonOptions& options,
             const std::function<Answer(Progress&)>& work);

/// The options in force, by long name, as --config would read them; sub-commands nest.
Json resolved_options(const CLI::App& app);

/// The command line with absolute paths cut to their last part, so that results name no machine.
///
/// without   long options ("--shard") to leave out, with the value behind them
std::string portable_command_line(int argc, char** argv,
                                  const std::vector<std::string>& without = {});

}  // namespace ultrasr
