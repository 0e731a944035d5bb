// Photographs on disk as GT patches: found, decoded, judged, cropped, turned.
#pragma once
#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>
#include <nlohmann/json.hpp>
#include <opencv2/core/mat.hpp>

#include "data/base/json.h"
#include "data/image_io.h"
#include "degradation/degradation.h"
#include "degradation/preset.h"

namespace ultrasr {

/// What becomes of a picture that is smaller than the patch.
enum class SmallPolicy { skip, pad, upscale, error };
SmallPolicy small_policy(std::string_view name);  ///< throws Error(usage) listing the known

/// Which pictures are good enough to be GT. 0 = not asked.
struct GtGate {
    int min_side = 0;                ///< pixels
    double min_kilobytes = 0;        ///< of the file
    double min_bytes_per_pixel = 0;  ///< of the file
    double max_blockiness = 0;       ///< step at 8 x 8 borders over step inside; 1 = none
    double min_sharpness = 0;        ///< variance of the Laplacian of luma, 8-bit levels
};

/// The mean step across borders of 8 x 8 blocks over the mean step elsewhere, along rows; 1 = no
/// blocks. luma: CV_8U.
double blockiness_of(const cv::Mat& luma);

/// Variance of the Laplacian. luma: CV_8U.
double sharpness_of(const cv::Mat& luma);

struct SourceOptions {
    DecodeOptions decode;
    SmallPolicy small = SmallPolicy::skip;
    GtGate gate;

    SourceOptions() {
        decode.keep_16_bits = true;
        decode.max_pixels = std::size_t{1} << 28;
    }
};

/// One file below the data root.
struct SourceFile {
    std::filesystem::path path;
    std::string name;  ///< relative, with "/"
};

struct SourceList {
    std::vector<SourceFile> files;  ///< by name, code points
    std::size_t others = 0;         ///< files that are no PNG or JPEG by their content
};

/// All pictures in a folder and below it by content, or the one file. Folders named like pictures
/// are folders.
/// throws Error(input) when nothing is there
SourceList list_sources(const std::filesystem::path& root);

/// A decoded photograph, or why it is not used.
struct SourcePicture {
    cv::Mat rgb;                  ///< CV_8UC3 or CV_16UC3
    std::string sha256;           ///< of the file
    Json facts = Json::object();  ///< what the record should tell: gray, bits, alpha ...
    std::string skipped;          ///< not empty: not usable, and why
};

/// throws Error(input) for a broken file, or a small one under SmallPolicy::error
SourcePicture read_source(const SourceFile& file, int patch, const SourceOptions& options);

/// Where a GT patch was taken and how it was turned: crop, then transpose, then flips.
struct PatchPlace {
    PixelRect crop;
    bool hflip = false, vflip = false, transpose = false;

    Json json() const;
    static PatchPlace from_json(const Json& json);
};

/// Draws a place for a patch; side 0 takes the whole picture. The variant of the stream tells
/// apart several patches of one picture.
PatchPlace draw_place(const Stream& stream, PixelSize picture, int patch, const Preset& preset);

/// H x W x 3 to a patch of planes in [0,1].
Planar patch_of(const cv::Mat& rgb, const PatchPlace& place);

/// The picture brought to at least the patch's size: mirrored at the right and lower side (pad), or
/// enlarged (upscale, bicubic). Larger pictures pass.
cv::Mat enlarged(const cv::Mat& rgb, int patch, SmallPolicy policy);

}  // namespace ultrasr
