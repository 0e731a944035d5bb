// The photographs that a network is trained on: found in folders, lists and HDF5 files, decoded
// once, kept as long as memory allows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "degradation/source_picture.h"

namespace ultrasr {

struct HrOptions {
    /// Any of: a folder of PNG and JPEG files, or one such file; a folder that holds no picture but
    /// HDF5 files; a list (.txt: one picture a line, relative to the list's folder, '#' before
    /// remarks); HDF5 of ultrasr-degrade (its gt) or of ultrasr-register (its hr).
    std::vector<std::filesystem::path> roots;
    int min_side = 512;  ///< both sides of every picture, pixels
    SmallPolicy small = SmallPolicy::skip;
    /// Decoded pictures kept, in bytes; 0 = none. What is in stays and nothing goes in any more
    /// once it is full: an epoch asks for every picture once, so that throwing out the one that was
    /// used longest ago would throw out what comes next.
    std::size_t cache_bytes = std::size_t{1} << 30;
};

/// Pictures by number. For any number of threads at once.
class HrSource {
  public:
    /// Lists them, decodes nothing: in the order of the roots, by name within a folder, line by
    /// line in a list, as stored in HDF5.
    ///
    /// throws Error(input) for a root that is missing, empty or of no known kind, and for a list
    ///        that names a missing file, with the line's number
    explicit HrSource(const HrOptions& options);
    ~HrSource();
    HrSource(HrSource&&) noexcept;
    HrSource& operator=(HrSource&&) noexcept;

    std::size_t size() const;  ///< unusable ones included: nobody has looked yet

    /// Path below the root, line of the list, id in a shard, "scene/x8" in a pair store.
    const std::string& name(std::size_t i) const;

    /// SHA-256 of all names in their order, the same wherever the pictures lie.
    const std::string& identity() const;

    /// H x W x 3, CV_8UC3, RGB, both sides at least `min_side`; of 16 bits the high byte. Shared
    /// with the cache: not to be written to.
    ///
    /// returns  empty for a picture that is broken or too small; a warning tells of it the first
    ///          time. An answer that does not change while the files do not.
    /// throws   Error(input) for a small picture under SmallPolicy::error
    cv::Mat get(std::size_t i) const;

    std::size_t unusable() const;      ///< pictures found unusable so far
    std::string first_reason() const;  ///< of the first one; empty if there is none
    std::size_t decoded() const;       ///< pictures decoded so far
    std::size_t cached_bytes() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace ultrasr
