// One file of a capture, and how it becomes pixels.
#pragma once
#include <array>
#include <filesystem>
#include <optional>
#include <string>

#include "acquisition/exif.h"
#include "data/base/geometry.h"
#include "data/frame.h"

namespace ultrasr {

enum class ShotKind { jpeg, png, raw };

/// What the numbers of a JPEG mean, by its ICC profile, else EXIF's ColorSpace, else its name (one
/// that starts with "_" is Adobe RGB by DCF). PNG counts as sRGB; RAW is developed to it.
enum class ColourSpace {
    srgb,
    adobe_rgb,
    unknown,  ///< another profile: decoded as sRGB
};

/// What scenes.csv says a shot is for.
enum class ShotRole { by_focal_length, wide, tele };

/// A picture file with its head read, pixels still on disk.
struct Shot {
    std::filesystem::path path;
    ShotKind kind = ShotKind::jpeg;
    PixelSize size;  ///< as decoded, sensor order
    ColourSpace colour = ColourSpace::srgb;
    Exif exif;
    std::optional<double> focal_override_mm;  ///< --focal FILE=mm
    ShotRole role = ShotRole::by_focal_length;

    std::string name() const { return path.filename().string(); }
    /// --focal, else FocalLength, else nothing.
    std::optional<double> focal_mm() const {
        return focal_override_mm ? focal_override_mm : exif.focal_length_mm;
    }
};

/// True for the extensions of the kinds above (.jpg .jpeg .png .nef .dng .arw .cr3 .cr2 .raf .orf
/// .rw2), in any case.
bool is_shot_file(const std::filesystem::path& path);

/// What a file's first bytes say; nothing for another kind or an empty file.
/// throws Error(input) when it is missing or not readable
std::optional<ShotKind> kind_of_file(const std::filesystem::path& path);

/// Reads head and EXIF. The kind is told by the contents, not by the name.
/// throws Error(input) when the file is empty, not readable or none of the kinds
Shot read_shot(const std::filesystem::path& path);

/// White balance multipliers of R, G1, B, G2 as LibRaw uses them.
using WhiteBalance = std::array<float, 4>;

/// The multipliers the camera chose, G1 = 1; daylight's where it noted none. Nothing for JPEG and
/// PNG.
/// throws Error(input)
std::optional<WhiteBalance> camera_white_balance(const Shot& shot);

/// Decodes all pixels in sensor order (no orientation applied).
///
/// JPEG and PNG: 8-bit sRGB (16-bit PNG: high byte). A warning of libjpeg counts as broken. Adobe
///               RGB is converted to sRGB.
/// RAW:          16-bit linear sRGB primaries, AHD, the given multipliers (registration.md 8)
/// white_balance for RAW: the wide frame's, for all frames of its scene; empty = the shot's own
/// throws        Error(input) when the file is truncated or broken
Frame decode_shot(const Shot& shot, const std::optional<WhiteBalance>& white_balance = {});

}  // namespace ultrasr
