// The world as one frame meets it: with things before it that have moved, and with air between.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "acquisition/simulated_world.h"
#include "data/base/geometry.h"

namespace ultrasr {

/// x -> gain x + (dx, dy): how a plane of the scene lies in a frame, from where the world has it.
struct PlaneShift {
    double gain = 1;
    double dx = 0, dy = 0;
};

/// An ellipse cut out of the world, laid before what is behind it.
struct Cutout {
    double x = 0, y = 0;  ///< centre, LR px of the world
    double half_width = 0, half_height = 0;
    double angle = 0;                 ///< radians
    double from_dx = 0, from_dy = 0;  ///< its picture is the world's, taken this far away
    PlaneShift shift;                 ///< where it lies in this frame
};

/// A field of small shifts, drawn on a grid and joined smoothly.
class ShiftField {
  public:
    /// spacing  of the grid, LR px
    /// rms      of the length of the shift, LR px
    ShiftField(std::uint64_t seed, const WorldRect& over, double spacing, double rms);

    /// Adds the shift at each place to it; outside of `over` that of its border.
    void shift(std::span<double> x, std::span<double> y) const;

    double greatest() const { return greatest_; }  ///< length at the grid's points

  private:
    WorldRect over_;
    double spacing_;
    double greatest_ = 0;
    cv::Mat grid_;  ///< CV_64FC2, B-spline coefficients
};

/// What one frame sees.
struct SimulatedScene {
    const SimulatedWorld* world = nullptr;
    PlaneShift background;
    std::vector<Cutout> cutouts;  ///< the first lies before the others
    std::optional<ShiftField> air;

    /// Light of one channel at n places of the ideal plane; see SimulatedWorld::sample. The places
    /// are scratch memory.
    void sample(int channel, double spacing, std::span<double> x, std::span<double> y,
                std::span<float> light) const;
};

/// How much of `rect` the cutouts cover where this frame sees them, [0,1].
double covered_share(const std::vector<Cutout>& cutouts, const WorldRect& rect);

}  // namespace ultrasr
