#include "leaderboard/feature_rows.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/file.h"
#include "data/weights/safetensors.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t rows_between_writes = 256;
constexpr const char* ending = ".safetensors";

}  // namespace

FeatureRows::FeatureRows(fs::path folder, std::string name, const std::string& shard,
                         std::string identity, std::size_t features)
    : folder_(std::move(folder)), identity_(std::move(identity)), features_(features) {
    const std::string head = name + ".features";
    own_ = folder_ / (head + (shard.empty() ? "" : "." + shard) + ending);
    if (!fs::is_directory(folder_)) return;
    for (const auto& entry : fs::directory_iterator(folder_)) {
        const std::string file_name = entry.path().filename().string();
        if (!file_name.starts_with(head) || !file_name.ends_with(ending)) continue;
        const SafetensorsFile file(entry.path());
        const auto& metadata = file.metadata();
        const auto stored = metadata.find("identity");
        if (stored == metadata.end() || stored->second != identity_) continue;
        const TensorView* rows = file.find("rows");
        const Json names = parse_json(metadata.at("pictures"), entry.path().string());
        require(
            rows && rows->dtype == Dtype::f32 && names.is_array() &&
                rows->shape == std::vector<std::int64_t>{static_cast<std::int64_t>(names.size()),
                                                         static_cast<std::int64_t>(features_)},
            "{} does not hold rows of {} features; delete it", entry.path().string(), features_);
        const std::byte* from = rows->bytes.data();
        for (const Json& picture : names) {
            std::vector<float>& row = rows_[picture.get<std::string>()];
            row.resize(features_);
            std::memcpy(row.data(), from, features_ * sizeof(float));
            from += features_ * sizeof(float);
        }
    }
}

void FeatureRows::add(const std::string& picture, std::vector<float> row) {
    if (row.size() != features_) fail(Fault::internal, "a row of {} features", row.size());
    rows_[picture] = std::move(row);
    if (++unwritten_ >= rows_between_writes) flush();
}

void FeatureRows::drop(const std::string& picture) { unwritten_ += rows_.erase(picture); }

void FeatureRows::flush() {
    if (unwritten_ == 0) return;
    Json names = Json::array();
    std::vector<float> all;
    all.reserve(rows_.size() * features_);
    for (const auto& [picture, row] : rows_) {
        names.push_back(picture);
        all.insert(all.end(), row.begin(), row.end());
    }
    make_folders(folder_);
    const std::vector<TensorView> tensors{
        {"rows",
         Dtype::f32,
         {static_cast<std::int64_t>(rows_.size()), static_cast<std::int64_t>(features_)},
         std::as_bytes(std::span(all))}};
    write_safetensors(own_, tensors,
                      {{"identity", identity_}, {"pictures", dump_json_line(names)}});
    unwritten_ = 0;
}

std::vector<float> FeatureRows::in_order(std::span<const std::string> pictures) const {
    std::vector<float> all;
    all.reserve(pictures.size() * features_);
    for (const std::string& picture : pictures) {
        const auto row = rows_.find(picture);
        if (row == rows_.end()) fail(Fault::internal, "no features of {}", picture);
        all.insert(all.end(), row->second.begin(), row->second.end());
    }
    return all;
}

void FeatureRows::forget(const fs::path& folder) {
    if (!fs::is_directory(folder)) return;
    for (const auto& entry : fs::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        if (name.find(".features") != std::string::npos && name.ends_with(ending)) {
            fs::remove(entry.path());
        }
    }
}

}  // namespace ultrasr
