// Features of pictures, one row each, kept on disk so that an interrupted run need not compute them
// again and several methods share those of the HR pictures.
#pragma once
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace ultrasr {

/// One kind of feature of the pictures of one folder. Reads all files NAME.features*.safetensors
/// there, writes its own; not for several threads.
class FeatureRows {
  public:
    /// folder    of the run; made at the first write
    /// name      of the kind: "fid", "hr.fid"
    /// shard     "" or "2of8": who writes
    /// identity  everything the rows depend on; files of another identity count as absent
    /// features  length of a row
    FeatureRows(std::filesystem::path folder, std::string name, const std::string& shard,
                std::string identity, std::size_t features);

    bool has(const std::string& picture) const { return rows_.contains(picture); }

    /// throws Error(storage) when it is time to write and that fails
    void add(const std::string& picture, std::vector<float> row);

    /// Forgets one picture's row, because its pixels are new.
    void drop(const std::string& picture);

    /// Writes what was added since the last time. throws Error(storage).
    void flush();

    /// The rows of these pictures one behind another; each must be there.
    std::vector<float> in_order(std::span<const std::string> pictures) const;

    /// Removes the files of all kinds in a folder.
    static void forget(const std::filesystem::path& folder);

  private:
    std::filesystem::path folder_, own_;
    std::string identity_;
    std::size_t features_;
    std::map<std::string, std::vector<float>> rows_;
    std::size_t unwritten_ = 0;
};

}  // namespace ultrasr
