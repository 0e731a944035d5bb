// HDF5 files of LR/HR pairs (registration.md 10): one scene a file, or many packed into one.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>
#include <opencv2/core/mat.hpp>

#include "data/base/geometry.h"
#include "data/base/json.h"

namespace ultrasr {

/// One pair with what is known of it.
struct StoredPair {
    std::string scene;  ///< a word without "/"
    Scale scale;
    cv::Mat lr;      ///< h x w x 3, CV_8UC3 or CV_16UC3, RGB, sRGB-encoded
    cv::Mat hr;      ///< H x W x 3, likewise
    cv::Mat weight;  ///< h x w, CV_32F, 0 = not to be scored; stored as float16; empty = none
    cv::Mat shift;   ///< rows x columns of blocks, CV_32FC2 (x, y), LR px; empty = none
    /// An object. Numbers, texts, truth values, nulls and rectangular lists of them become typed
    /// attributes; whatever nests deeper gets names with dots: "exif.iso", "sources.0.name".
    Json attributes = Json::object();
};

/// Where a pair lies in the file.
enum class StoreLayout {
    one_scene,  ///< /x8
    packed,     ///< /scene/x8
};

/// Writes a store beside `path`, syncs, renames. The same bytes for the same pairs.
///
/// Chunks of 256 x 256 x 3, shuffle, deflate 4, Fletcher-32. The group of a pair also holds `scene`
/// and `scale` as attributes; the root `format` = "ultrasr-pairs" and `version` = 1.
/// throws Error(storage) when the disk is full or the folder not writable, and nothing is left
///        behind; Error(internal) for pairs that break the rules above or come twice
void write_pair_store(const std::filesystem::path& path, const std::vector<StoredPair>& pairs,
                      StoreLayout layout = StoreLayout::one_scene);

/// The same pair by pair, for those who do not want to hold all of them: nothing is to be seen at
/// `path` until commit().
class PairStoreWriter {
  public:
    /// throws Error(storage)
    explicit PairStoreWriter(const std::filesystem::path& path,
                             StoreLayout layout = StoreLayout::one_scene);
    ~PairStoreWriter();
    PairStoreWriter(PairStoreWriter&&) noexcept;

    /// throws as write_pair_store
    void add(const StoredPair& pair);
    void commit();

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Gathers stores into a packed one without compressing anything again; written like the above.
/// throws Error(input) when a store is broken or two hold the same scene and scale
void pack_pair_stores(const std::filesystem::path& path,
                      const std::vector<std::filesystem::path>& stores);

/// One picture by its place, "x8/lr" or "scene/x8/hr": CV_8UC3 or CV_16UC3 as stored.
/// throws Error(input)
cv::Mat read_stored_picture(const std::filesystem::path& path, const std::string& place);

/// A store on disk. Opens the file for each call, so that objects may be copied and used from any
/// thread; HDF5 itself does one call at a time.
class PairStore {
  public:
    struct Entry {
        std::string scene;  ///< of the group above, else of the attribute, else the file's stem
        Scale scale;
        PixelSize lr_size, hr_size;
        int lr_bits = 8, hr_bits = 8;
        std::string group;  ///< "x8" or "scene/x8"
    };

    /// Lists the pairs, no pixels read.
    /// throws Error(input) when the file is missing, no HDF5 or of another format
    explicit PairStore(const std::filesystem::path& path);

    /// By scene (code points), then by scale. Never empty.
    const std::vector<Entry>& entries() const { return entries_; }

    /// CV_8UC3 or CV_16UC3 as stored. throws Error(input) when the data are damaged.
    cv::Mat read_lr(const Entry& entry) const;
    cv::Mat read_hr(const Entry& entry) const;

    /// All of a pair; attributes by the names in the file, sorted.
    StoredPair read(const Entry& entry) const;

  private:
    std::filesystem::path path_;
    std::vector<Entry> entries_;
};

}  // namespace ultrasr
