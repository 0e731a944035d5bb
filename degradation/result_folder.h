// Finished results read back: records and their pictures, wherever they are stored.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>
#include <opencv2/core/mat.hpp>

#include "data/base/json.h"

namespace ultrasr {

/// A folder that ultrasr-degrade wrote, its records.jsonl, or an HDF5 shard.
class ResultFolder {
  public:
    /// throws Error(input) when there are no records
    explicit ResultFolder(const std::filesystem::path& path);

    const std::vector<Json>& records() const { return records_; }

    /// "gt", "lr_x8" ... of record i, CV_8UC3; nothing when that was not saved.
    /// throws Error(input) for a missing or broken file, and for tar shards
    std::optional<cv::Mat> picture(std::size_t i, const std::string& name) const;

  private:
    std::filesystem::path folder_;  ///< empty for a shard by itself
    std::filesystem::path shard_;
    std::vector<Json> records_;
};

}  // namespace ultrasr
