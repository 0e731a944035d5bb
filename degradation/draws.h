// The scalar draws of one output: each has its own slot, so that no draw shifts another.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "degradation/degradation.h"
#include "degradation/preset.h"

namespace ultrasr {

/// Slot numbers, frozen by record format version 1 (degradation.md 4.1).
namespace slot {
enum : std::uint32_t {
    hflip = 0,
    vflip = 1,
    transpose = 2,
    crop_x = 3,
    crop_y = 4,
    paired_crop_x = 5,
    paired_crop_y = 6,
    kernel1 = 10,  ///< size, sinc?, omega, type, sigma x, sigma y, rotation, side of beta, beta
    kernel2 = 20,  ///< the same
    final_is_sinc = 30,
    final_size = 31,
    final_omega = 32,
    stage1 = 40,  ///< direction, factor, mode, noise type, strength, gray, quality
    blur2 = 50,
    stage2 = 51,  ///< as stage1
    order = 58,
    mode_to_lr = 59,
    mode_to_gt = 60,
    grayscale = 61,
    no_degradation = 70,
    antialias1 = 71,  ///< of the three resizes
    antialias2 = 72,
    antialias3 = 73,
    noise_field1 = 128,
    noise_field2 = 129,
    shuffle = 1000,  ///< BSRGAN's family: 32 slots an operation
    extra = 2000,    ///< a preset's extra steps: 16 slots each
};
}  // namespace slot

/// One scalar in [0,1), 53 bits: a pure function of its arguments.
double draw_unit(const Stream& stream, std::uint32_t slot, std::uint32_t level);

/// 48 bits for a source: of its path below the data root, UTF-8 with "/" (SHA-256).
std::uint64_t path_id(std::string_view relative_path);

/// What larger draws mean.
enum class Orientation {
    plain,     ///< as the references map them
    worse_up,  ///< a larger u is always the stronger degradation, for levels that share their u
};

/// Draws for one level and keeps what was drawn.
class Draws {
  public:
    Draws(const Stream& stream, std::uint32_t level, Orientation orientation)
        : stream_(stream), level_(level), orientation_(orientation) {}

    /// a + (b - a) u; of something that is worse when small (factor, quality) turned round under
    /// worse_up.
    double uniform(std::uint32_t slot, std::string_view name, Range range,
                   bool worse_when_small = false);
    /// Yes for u < probability; under worse_up for u >= 1 - probability unless `yes` is the milder.
    bool chance(std::uint32_t slot, std::string_view name, double probability,
                bool yes_is_milder = false);
    /// The first i with u total < weight 0 + ... + weight i.
    std::size_t weighted(std::uint32_t slot, std::string_view name,
                         std::span<const double> weights);
    /// floor(n u). The log says first + step i.
    std::size_t choice(std::uint32_t slot, std::string_view name, std::size_t n, int first = 0,
                       int step = 1);
    /// low ... high, both included.
    int integer(std::uint32_t slot, std::string_view name, int low, int high);

    Orientation orientation() const { return orientation_; }
    const Stream& stream() const { return stream_; }
    std::uint32_t level() const { return level_; }
    /// {name: [u, value]} in the order of the draws.
    const Json& log() const { return log_; }

  private:
    double unit(std::uint32_t slot) const { return draw_unit(stream_, slot, level_); }

    Stream stream_;
    std::uint32_t level_;
    Orientation orientation_;
    Json log_ = Json::object();
};

}  // namespace ultrasr
