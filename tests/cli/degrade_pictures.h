// Photographs for ultrasr-degrade, good and strange ones, and what it leaves behind.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "data/base/json.h"
#include "tests/cli/program.h"

namespace ultrasr::test {

/// Edges, waves and a little noise, CV_8UC3; `item` varies it.
cv::Mat photograph(int width, int height, std::uint64_t item);

/// `n` of them as photographs/p0.png ..., side x side.
void make_photographs(const std::filesystem::path& folder, int n, int side = 96);

/// ultrasr-degrade IN OUT at x4 with patches of 64 pixels; more words may follow.
Ended degrade(const std::filesystem::path& in, const std::filesystem::path& out,
              std::vector<std::string> more = {});

std::vector<Json> records_in(const std::filesystem::path& out);
/// The lines of skipped.jsonl.
std::vector<Json> skipped_in(const std::filesystem::path& out);

/// A JPEG with a segment put in behind its first marker: marker 0xE1 (EXIF), 0xE2 (ICC) ...
std::string with_segment(const std::string& jpeg, unsigned char marker, const std::string& body);

/// The EXIF segment's body for an orientation.
std::string exif_body(int orientation);

/// A CMYK JPEG; `adobe` marks it as inverted.
std::string cmyk_jpeg(const cv::Mat& cmyk);

}  // namespace ultrasr::test
