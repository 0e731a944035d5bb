// Finished pictures of some other program, found by name.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/pair_dataset.h"
#include "models/method.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

bool is_jpeg(const fs::path& path) {
    std::string ext = path.extension().string();
    std::transform(ext.begin(), ext.end(), ext.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return ext == ".jpg" || ext == ".jpeg";
}

class FolderMethod final : public Method {
  public:
    FolderMethod(const std::string& folder, std::string label)
        : folder_(fs::absolute(folder).lexically_normal()),
          label_(std::move(label)),
          files_(list_images(folder_)) {
        require(!files_.empty(), "no pictures in {}; folder: needs the folder of finished pictures",
                folder_.string());
        jpeg_ = std::count_if(files_.begin(), files_.end(), is_jpeg);
        if (jpeg_ > 0) {
            warn(
                "{} of {} pictures in {} are JPEG: they were compressed after restoring, which "
                "lowers every metric; use PNG results if there are any",
                jpeg_, files_.size(), folder_.string());
        }
    }

    Image restore(const Image&, const RestoreRequest& request) const override {
        const fs::path file =
            match_stems({request.stem}, files_, "finished picture in " + folder_.string(), label_)
                .files.at(0);
        Image image = read_image(file).image;
        require(image.size() == request.target,
                "{} is {} x {} pixels and should be {} x {}; give results of the right scale",
                file.string(), image.width(), image.height(), request.target.width,
                request.target.height);
        return image;
    }

    Provenance provenance() const override {
        // One hash over names and contents
        std::string listing;
        for (const fs::path& file : files_) {
            listing += fmt::format("{}  {}\n", sha256_of_file(file), file.filename().string());
        }
        Provenance p{
            .kind = "folder",
            .weights = {},
            .scale_policy = "",
            .device = "",
            .dtype = "",
            .rounding = "as in the files",
            .settings = {{"files", std::to_string(files_.size())}, {"sha256", sha256(listing)}}};
        if (jpeg_ > 0) p.settings.emplace_back("jpeg", std::to_string(jpeg_));
        return p;
    }

    bool parallel_over_images() const override { return true; }
    bool timeless() const override { return true; }

  private:
    fs::path folder_;
    std::string label_;
    std::vector<fs::path> files_;
    std::ptrdiff_t jpeg_ = 0;
};

}  // namespace

extern const MethodInfo folder_method;
const MethodInfo folder_method{
    .name = "folder",
    .title = "Finished pictures",
    .source = "folder:PATH, pictures matched by name",
    .prefix = true,
    .weight_files = {},
    .options = {},
    .make = [](const MethodOptions& o, const std::string& path) -> MethodPtr {
        return std::make_unique<FolderMethod>(path, o.label);
    }};

}  // namespace ultrasr
