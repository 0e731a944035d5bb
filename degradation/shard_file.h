// HDF5 shards of degraded pictures: a dataset of one chunk a picture for GT and for each level.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>
#include <opencv2/core/mat.hpp>

#include "data/base/json.h"

namespace ultrasr {

/// One output as stored: pictures by their name ("gt", "gt_usm", "lr_x8", "lr_up_x8").
struct ShardItem {
    std::string id;
    std::string record;                                     ///< JSON on one line
    std::vector<std::pair<std::string, cv::Mat>> pictures;  ///< CV_8UC3, RGB
};

/// Writes a shard beside `path`, syncs, renames: /<picture> N x H x W x 3, uint8, a chunk a picture
/// with a Fletcher-32 checksum and no compression; /id and /record N texts; attributes `format` =
/// "ultrasr-degrade", `version` = 1 and `options`. The same bytes for the same items.
///
/// item     gives item i; called once for each, in order, so that one at a time is in memory
/// throws   Error(storage); Error(input) when pictures of one name differ in size
void write_shard(const std::filesystem::path& path, std::size_t count, const std::string& options,
                 const std::function<ShardItem(std::size_t)>& item);

/// Reads shards. Opens the file for each call.
class ShardFile {
  public:
    /// throws Error(input) when the file is no such shard
    explicit ShardFile(const std::filesystem::path& path);

    const std::vector<std::string>& ids() const { return ids_; }
    const std::vector<std::string>& pictures() const { return pictures_; }  ///< names, sorted
    /// throws Error(input) when the data are damaged
    cv::Mat read(const std::string& picture, std::size_t i) const;
    std::string record(std::size_t i) const;

  private:
    std::filesystem::path path_;
    std::vector<std::string> ids_, pictures_;
};

}  // namespace ultrasr
