// What the simulated cameras look at: a picture at infinity, on the ideal image plane of the wide
// camera. Unit: wide pixels ("LR px") about the optical axis, x right, y down.
#pragma once
#include <array>
#include <span>
#include <vector>
#include <opencv2/core/mat.hpp>

#include "data/base/geometry.h"
#include "data/image.h"

namespace ultrasr {

/// Half-open, in LR px.
struct WorldRect {
    double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
    double width() const { return x1 - x0; }
    double height() const { return y1 - y0; }
    bool contains(double x, double y) const { return x >= x0 && x < x1 && y >= y0 && y < y1; }
};

/// Red, green and blue of linear light, three CV_16UC1 of one size, full scale 1.
using LinearPlanes = std::array<cv::Mat, 3>;

/// From an sRGB-encoded or linear picture; values are clamped to [0,1].
LinearPlanes linear_planes(const Image& image);

/// Half of the size each way, by area; an odd last row or column is dropped.
LinearPlanes halved(const LinearPlanes& planes);

/// How much fine texture of its own a world adds to its pictures, where these end: standard
/// deviation relative to the light.
struct FineTexture {
    double strength = 1.0;  ///< times the picture's own contrast at about 3 pixels per LR px
    double least = 0, greatest = 0.10;
};

/// The picture: pixels of tiles, joined by a cubic (Catmull-Rom), times a texture.
///
/// Photographs end at 3 to 6 pixels per LR px, a tele frame looks for 14. So the light is
/// multiplied by 1 + a n(x, y): n is noise of two octaves about the wavelengths 0.4 and 0.2 LR px,
/// fixed to the world; a follows the local contrast of the tile, so that what is out of focus stays
/// so. An octave shorter than two samples is left out, since its integral over a pixel is nought:
/// the wide frame sees (to 1e-3 of the light) none of it.
class SimulatedWorld {
  public:
    /// Adds a picture that fills `rect`. Where several do, the one added first is seen; outside
    /// of all the world is mid grey.
    void add_tile(const WorldRect& rect, LinearPlanes planes, const FineTexture& texture = {});

    /// Light of one channel (0 red, 1 green, 2 blue), linear, >= 0, at n places.
    ///
    /// spacing  distance of neighbouring samples in LR px: picks a picture fine enough for it, and
    ///          not so fine that point samples would alias
    void sample(int channel, double spacing, std::span<const double> x, std::span<const double> y,
                std::span<float> light) const;

    /// The value below which `share` of the luminance lies, over a grid of 256 x 256 places.
    double luminance_quantile(const WorldRect& over, double share) const;

    bool empty() const { return tiles_.empty(); }

  private:
    struct Tile {
        WorldRect rect;
        std::vector<LinearPlanes> levels;  ///< each half as fine as the one before
        double density = 0;                ///< pixels per LR px of level 0, along x
        double density_y = 0;
        cv::Mat texture;                                    ///< CV_32F: its strength in each block
        double texture_density = 0, texture_density_y = 0;  ///< blocks per LR px
    };
    std::size_t tile_at(double x, double y) const;  ///< tiles_.size() where there is none
    bool all_in_tile(std::size_t t, const double* x, const double* y, std::size_t n) const;
    void sample_tile(const Tile& tile, int channel, double spacing, const double* x,
                     const double* y, std::size_t n, float* light) const;

    std::vector<Tile> tiles_;
};

}  // namespace ultrasr
