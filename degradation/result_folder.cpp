#include "degradation/result_folder.h"

#include "data/base/error.h"
#include "data/image_io.h"
#include "degradation/replay.h"
#include "degradation/shard_file.h"

namespace ultrasr {
namespace fs = std::filesystem;

ResultFolder::ResultFolder(const fs::path& path) {
    std::error_code code;
    if (fs::is_directory(path, code)) {
        folder_ = path;
        require(fs::is_regular_file(path / "records.jsonl", code),
                "{} holds no records.jsonl; name a finished folder of ultrasr-degrade",
                path.string());
        records_ = read_records(path / "records.jsonl");
    } else {
        records_ = read_records(path);
        if (path.extension() == ".h5") {
            shard_ = path;
        } else {
            folder_ = path.has_parent_path() ? path.parent_path() : fs::path(".");
        }
    }
}

std::optional<cv::Mat> ResultFolder::picture(std::size_t i, const std::string& name) const {
    const Json& record = records_[i];
    if (!record.at("sha256").contains(name)) return std::nullopt;
    if (!shard_.empty()) return ShardFile(shard_).read(name, i);
    const Json files = record.value("files", Json::object());
    for (const auto& [file, value] : files.items()) {
        const fs::path path = folder_ / file;
        if (path.extension() == ".h5") return ShardFile(path).read(name, value.get<std::size_t>());
        require(path.extension() != ".tar",
                "{} is a tar file; unpack it, or make a folder or HDF5 for this", path.string());
    }
    // A renamed folder (layouts) keeps the order of the pictures
    std::size_t at = 0;
    for (const auto& [picture, hash] : record["sha256"].items()) {
        if (picture == name) {
            auto file = files.begin();
            for (std::size_t k = 0; k < at && file != files.end(); ++k) ++file;
            if (file == files.end()) {  // replayed results list no files
                return read_rgb8(folder_ / name / (record["id"].get<std::string>() + ".png"));
            }
            return read_rgb8(folder_ / file.key());
        }
        ++at;
    }
    return std::nullopt;
}

}  // namespace ultrasr
