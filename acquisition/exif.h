// What the camera wrote beside the picture, read and written by Exiv2.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "data/base/json.h"

namespace ultrasr {

/// Missing tags stay empty; nothing is guessed (registration.md 8).
struct Exif {
    std::optional<std::string> make, model, lens_model;
    std::optional<double> focal_length_mm;
    std::optional<double> focal_length_35mm;  ///< 35 mm equivalent
    std::optional<int> iso;
    std::optional<double> exposure_s;
    std::optional<double> f_number;
    std::optional<int> exposure_mode;  ///< 0 auto, 1 manual, 2 bracket
    std::optional<int> white_balance;  ///< 0 auto, 1 manual
    std::optional<int> orientation;    ///< 1..8
    /// DateTimeOriginal with SubSecTimeOriginal, seconds since 1970 in the camera's own clock
    std::optional<double> taken_s;
    std::optional<int> pixel_width, pixel_height;  ///< PixelXDimension, PixelYDimension
    std::optional<int> color_space;                ///< 1 sRGB, 65535 uncalibrated (Adobe RGB)

    // Nikon maker notes: "Off", "On" (VR "n/a"; vignette "Low", "Normal", "High"), else
    // "unknown (5)"; the distance is coded in steps of 6 %; the lens by a number. Written only
    // with a make that starts with NIKON, and lens numbers up to 255.
    std::optional<std::string> auto_distortion_control, vignette_control, vibration_reduction;
    std::optional<double> focus_distance_m;
    std::optional<std::string> lens_id;
};

/// Reads a JPEG's, TIFF's or RAW file's tags. A file without EXIF gives an empty record.
/// throws Error(input) when the file is missing or no picture Exiv2 knows
Exif read_exif(const std::filesystem::path& path);

/// The same of a file in memory.
/// name  for messages
Exif read_exif_from_memory(std::string_view file, std::string_view name);

/// A JPEG in memory with these tags in place of any it had; the same bytes for the same input.
/// Fractions keep 8 digits, times milliseconds, the 35 mm equivalent whole millimetres.
/// throws Error(internal) when `jpeg` is none, or for maker notes that cannot be written
std::string with_exif(std::string_view jpeg, const Exif& exif);

/// One key a tag, null where missing; numbers as they are.
Json exif_to_json(const Exif& exif);

}  // namespace ultrasr
