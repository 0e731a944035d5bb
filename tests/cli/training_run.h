// A run of sdd-train to test, with a family small enough for seconds, and what it leaves.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "tests/cli/program.h"
#include "tests/test.h"

namespace ultrasr::test {

using Words = std::vector<std::string>;

/// VAE that halves, UNet of two levels, a text encoder of two layers: 0.1 million parameters.
extern const char* const tiny_family;

/// Four photographs, a family with random weights, and a run of all stages that nothing disturbed.
struct Workplace {
    TemporaryFolder folder;
    std::filesystem::path base = folder.path() / "base",
                          photographs = folder.path() / "photographs",
                          whole = folder.path() / "whole" / "run";
    Ended first;

    Workplace();

    /// A run file, and words that start a run into `out`; more words may follow.
    ///
    /// settings  over those of the chain
    Words words(const std::filesystem::path& out, const Json& settings = Json::object(),
                const Words& more = {}) const;

    /// Settings that let stage rsd or dml start from the undisturbed run.
    Json after_whole(const char* stage) const;
};

/// Made at the first call, for all tests of the program.
const Workplace& workplace();

Ended train(const Words& words);

/// Name and hash of all that must not depend on how a run came to its end. (run.json holds OUT's
/// place; log and curves hold speed.)
std::string lasting(const std::filesystem::path& out);

/// The lines that only one of two lists has.
std::string difference(const std::string& a, const std::string& b);

/// Name and hash of the files of weights.
std::string weights_in(const std::filesystem::path& out);

std::vector<Json> log_of(const std::filesystem::path& out);

/// The log without speed and memory.
std::string log_without_speed(const std::filesystem::path& out);

/// Whole lines so far; 0 without a log.
std::size_t lines_in(const std::filesystem::path& out);

/// Steps of a stage of which there is a whole checkpoint, ascending.
std::vector<std::int64_t> checkpoints(const std::filesystem::path& out, const std::string& stage);

/// The last checkpoint, as bytes.
std::string last_checkpoint(const std::filesystem::path& out, const std::string& stage);

/// Until it holds, 30 s at most.
bool wait_for(const std::function<bool()>& condition);

}  // namespace ultrasr::test
