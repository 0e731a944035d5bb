// Sets to benchmark, and what is expected of the answers.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/base/json.h"
#include "data/image.h"
#include "tests/cli/program.h"

namespace ultrasr::test {

/// A picture with structure at every size; `item` varies it.
Image picture(int width, int height, std::uint64_t item);

/// A set of `n` pairs p0, p1, ..., HR side x side, LR at 1/4.
void make_set(const std::filesystem::path& folder, int n, int side = 96);

/// ultrasr-bench with quick metrics on `set`; more words may follow.
Ended bench(const std::filesystem::path& set, const std::filesystem::path& out,
            std::vector<std::string> more = {}, const std::string& methods = "bicubic",
            const std::string& metrics = "psnr-y601");

Json json_of(const std::string& text);

}  // namespace ultrasr::test
