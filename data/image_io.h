// Picture files. The only place that knows BGR order and 8 or 16 bits.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/image.h"

namespace ultrasr {

/// What the file held that the Image does not show.
struct ImageOrigin {
    int bits = 8;           ///< per sample in the file
    int channels = 3;       ///< in the file: 1 grey, 2 grey + alpha, 3, 4
    bool lossy = false;     ///< JPEG
    bool oriented = false;  ///< an EXIF orientation was applied
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

/// Width and height after orientation, from the file's head. throws Error(input).
PixelSize read_image_size(const std::filesystem::path& path);

/// An 8-bit RGB PNG in memory. Values are clamped and rounded.
std::string encode_png(const Image& image, Rounding rounding = Rounding::half_even);

/// An 8-bit JPEG in memory, quality in [1,100], for thumbnails.
std::string encode_jpeg(const Image& image, int quality);

/// Writes an 8-bit RGB PNG by temporary file and rename. throws Error(storage).
void write_png(const std::filesystem::path& path, const Image& image,
               Rounding rounding = Rounding::half_even);

/// True for .png, .jpg and .jpeg, in any case.
bool is_image_file(const std::filesystem::path& path);

/// The picture files directly in a folder, sorted by name (code points).
/// throws Error(input) when the folder is missing
std::vector<std::filesystem::path> list_images(const std::filesystem::path& folder);

}  // namespace ultrasr
