// Picture files. The only place that knows BGR order and 8 or 16 bits.
#pragma once
#include <array>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/image.h"

namespace ultrasr {

/// What the file held that the Image does not show.
struct ImageOrigin {
    int bits = 8;            ///< per sample in the file
    int channels = 3;        ///< in the file: 1 grey, 2 grey + alpha, 3, 4
    bool lossy = false;      ///< JPEG
    bool oriented = false;   ///< an EXIF orientation was applied
    bool cmyk = false;       ///< converted by (1 - C)(1 - K), no colour profile
    bool profile = false;    ///< an ICC profile is in it, and ignored
    bool truncated = false;  ///< a JPEG that ends too early, let through
    bool has_alpha() const { return channels == 2 || channels == 4; }
};

struct DecodedImage {
    Image image;
    ImageOrigin origin;
};

/// Reads PNG or JPEG as 8-bit RGB, divided by 255 (true division).
///
/// Grey is copied to three channels, alpha is dropped without blending, of 16 bits the high byte
/// is taken, an EXIF orientation is applied: what OpenCV's colour mode does (metrics.md 1.1).
/// throws Error(input) when the file is missing, of another kind, truncated or broken
///
/// No other formats: OpenCV's codecs would read them, but linking those costs every program 0.1 s
/// at its start, and benchmarks come as PNG.
DecodedImage read_image(const std::filesystem::path& path);

/// Reads PNG or JPEG as stored: H x W x 3, CV_8UC3, RGB order, no EXIF orientation applied. Grey,
/// alpha, 16 bits and errors as in read_image.
cv::Mat read_rgb8(const std::filesystem::path& path);

/// The same of a file in memory.
/// name  for messages
cv::Mat decode_rgb8(std::string_view file, const std::filesystem::path& name);

/// What else can be had of a picture file.
struct DecodeOptions {
    bool keep_16_bits = false;     ///< CV_16UC3 for a 16-bit PNG, else the high byte
    bool orient = true;            ///< apply an EXIF orientation
    bool allow_truncated = false;  ///< keep what there is of a JPEG; the rest is grey
    /// Blend transparent pixels over this colour (sRGB-encoded), else alpha is dropped.
    std::optional<std::array<unsigned char, 3>> over;
    std::size_t max_pixels = std::size_t{1} << 30;
};

/// Pixels in RGB order with what the file was.
struct DecodedPixels {
    cv::Mat rgb;  ///< CV_8UC3 or CV_16UC3
    ImageOrigin origin;
};

/// A PNG or JPEG in memory. throws Error(input) as read_image.
/// name  for messages
DecodedPixels decode_pixels(std::string_view file, const std::filesystem::path& name,
                            const DecodeOptions& options);

/// True for the first bytes of a PNG or a JPEG, whatever the file is called.
bool is_picture(std::string_view head);

/// CV_8UC3, RGB order, to k / 255 by true division.
Image image_of_rgb8(const cv::Mat& rgb);

/// Width and height as stored, from the first bytes of a PNG or JPEG; nothing when they are of
/// another kind, too few or broken.
std::optional<PixelSize> stored_size(std::string_view head);

/// Width and height after orientation, from the file's head. throws Error(input).
PixelSize read_image_size(const std::filesystem::path& path);

/// An 8-bit RGB PNG in memory. Values are clamped and rounded.
std::string encode_png(const Image& image, Rounding rounding = Rounding::half_even);

/// A PNG in memory of the same depth.
///
/// rgb    H x W x 3, CV_8UC3 or CV_16UC3, RGB order
/// level  zlib's, 1 (fast) to 9 (small)
std::string encode_png(const cv::Mat& rgb, int level = 2);

/// An 8-bit JPEG in memory, quality in [1,100], for thumbnails.
std::string encode_jpeg(const Image& image, int quality);

/// The same of CV_8UC3 pixels in RGB order, as a camera writes it.
/// subsample  halve the colour differences each way (4:2:0), else keep them whole (4:4:4)
std::string encode_jpeg(const cv::Mat& rgb8, int quality, bool subsample);

/// Writes an 8-bit RGB PNG by temporary file and rename. throws Error(storage).
void write_png(const std::filesystem::path& path, const Image& image,
               Rounding rounding = Rounding::half_even);

/// True for .png, .jpg and .jpeg, in any case.
bool is_image_file(const std::filesystem::path& path);

/// The picture files directly in a folder, sorted by name (code points).
/// throws Error(input) when the folder is missing
std::vector<std::filesystem::path> list_images(const std::filesystem::path& folder);

/// The same of a folder and all folders below it, hidden ones left out; sorted by path.
std::vector<std::filesystem::path> list_images_below(const std::filesystem::path& folder);

}  // namespace ultrasr
