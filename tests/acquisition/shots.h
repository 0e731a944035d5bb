// Small shots that tests take themselves: textured pictures with the tags of a zoom series.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <opencv2/core.hpp>

#include "acquisition/exif.h"
#include "data/base/error.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/image.h"
#include "data/image_io.h"

namespace ultrasr::test {

/// The sentence of the Error that `action` throws, which must be of that fault; "" when it throws
/// none.
template <class Action>
std::string sentence_of(Action&& action, Fault fault = Fault::input) {
    try {
        action();
    } catch (const Error& error) {
        return error.fault() == fault ? error.sentence() : "another fault: " + error.sentence();
    }
    return {};
}

/// Equal to a relative error. (doctest's Approx adds 1 to the scale, which hides small values.)
inline bool near(double value, double expected, double relative) {
    return std::abs(value - expected) <= relative * std::abs(expected);
}

/// A sum of random waves, another one for each seed; within [0.15, 0.78].
class Waves {
  public:
    explicit Waves(std::uint64_t seed, double least_period = 6) {
        Rng rng(seed, 0);
        for (Wave& w : all_) {
            const double period = least_period * (1 + 3 * rng.uniform());
            const double angle = 2 * CV_PI * rng.uniform();
            w = {2 * CV_PI * std::cos(angle) / period, 2 * CV_PI * std::sin(angle) / period,
                 2 * CV_PI * rng.uniform()};
        }
    }
    double at(double x, double y) const {
        double sum = 0;
        for (const Wave& w : all_) sum += std::sin(w.fx * x + w.fy * y + w.phase);
        return std::clamp(0.5 + sum / 14, 0.15, 0.78);
    }

  private:
    struct Wave {
        double fx, fy, phase;
    };
    std::array<Wave, 12> all_{};
};

/// A grey picture of waves, moved by (dx, dy) pixels to the right and down.
inline Image waves(PixelSize size, std::uint64_t seed, double dx = 0, double dy = 0,
                   double least_period = 6) {
    const Waves all(seed, least_period);
    Image image(size);
    for (int y = 0; y < size.height; ++y) {
        float* row = image.row_(y);
        for (int x = 0; x < size.width; ++x) {
            const auto v = static_cast<float>(all.at(x - dx, y - dy));
            row[3 * x] = row[3 * x + 1] = row[3 * x + 2] = v;
        }
    }
    return image;
}

/// The tags of a good shot: f/8, ISO 100, 1/50 s, all manual, corrections off, size 96 x 64.
inline Exif zoom_exif(double focal_mm, double taken_s) {
    Exif exif;
    exif.make = "NIKON CORPORATION";
    exif.model = "NIKON Z 6_2";
    exif.focal_length_mm = focal_mm;
    exif.iso = 100;
    exif.exposure_s = 0.02;
    exif.f_number = 8;
    exif.exposure_mode = 1;
    exif.white_balance = 1;
    exif.orientation = 1;
    exif.taken_s = taken_s;
    exif.color_space = 1;
    exif.auto_distortion_control = "Off";
    exif.vignette_control = "Off";
    exif.vibration_reduction = "Off";
    return exif;
}

/// Writes a JPEG with these tags.
inline void put_shot(const std::filesystem::path& path, const Exif& exif,
                     const Image& image = waves({96, 64}, 1)) {
    write_file(path, with_exif(encode_jpeg(image, 95), exif));
}

/// 10:00:00 on 1 May 2024 in the camera's clock.
constexpr double noon_s = 1714557600;

}  // namespace ultrasr::test
