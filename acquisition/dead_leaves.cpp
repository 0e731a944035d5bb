#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <opencv2/core.hpp>

#include "acquisition/texture_noise.h"
#include "acquisition/world_pictures.h"
#include "data/base/random.h"

namespace ultrasr {
namespace {

constexpr double greatest_radius = 150;  // LR px; the smallest is 150 / 2^10 = 0.15
constexpr int octaves = 10;
constexpr int layers = 60;            // one behind the other; in a layer small leaves before large
constexpr double layer_cover = 0.28;  // share of the plane that one layer's leaves add up to
constexpr double cell_side = 4;       // of an octave's grid, in its greatest radii
constexpr int tile_side = 128;        // pixels a task paints
constexpr float opaque = 0.996F;      // nothing further is laid behind such a pixel
constexpr float ground = 0.12F;       // behind all leaves
constexpr double open_share = 0.006;  // a canvas is done when no more than this is uncovered
constexpr double fine_density = 8, coarse_density = 1.25;  // pixels per LR px
constexpr double smallest_pixels = 1.1;  // an octave with smaller leaves is left out
constexpr FineTexture leaf_texture{.strength = 0.7, .least = 0.02, .greatest = 0.08};
constexpr double crowded_below = 14;  // LR px: larger leaves stand everywhere

std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
    const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
    const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
    const auto word = philox4x32({low(a), high(a), low(b), high(b)}, {0x6c656166u, 0x756c7372u});
    return std::uint64_t{word[0]} << 32 | word[1];
}

/// Two whole numbers as one.
std::uint64_t cell_number(std::int64_t i, std::int64_t j) {
    return std::uint64_t{static_cast<std::uint32_t>(i)} << 32 | static_cast<std::uint32_t>(j);
}

double between(Rng& rng, double low, double high) { return low + (high - low) * rng.uniform(); }

/// A slowly changing number in [0,1] over the plane, joined smoothly between random values.
class SlowField {
  public:
    SlowField(std::uint64_t seed, double spacing) : seed_(seed), spacing_(spacing) {}
    double at(double x, double y) const {
        const double u = x / spacing_, v = y / spacing_;
        const double u0 = std::floor(u), v0 = std::floor(v);
        const auto smooth = [](double t) { return t * t * (3 - 2 * t); };
        const double fu = smooth(u - u0), fv = smooth(v - v0);
        const double top = value(u0, v0) * (1 - fu) + value(u0 + 1, v0) * fu;
        const double low = value(u0, v0 + 1) * (1 - fu) + value(u0 + 1, v0 + 1) * fu;
        return top * (1 - fv) + low * fv;
    }

  private:
    double value(double u, double v) const {
        const auto i = static_cast<std::int64_t>(u), j = static_cast<std::int64_t>(v);
        return static_cast<double>(mixed(seed_, cell_number(i, j)) >> 11) * 0x1p-53;
    }
    std::uint64_t seed_;
    double spacing_;
};

/// Where a leaf lies and how large it may be.
struct LeafPlace {
    double x = 0, y = 0, radius = 0;
};

struct Leaf {
    LeafPlace place;
    bool bar = false;
    float half_width = 0, half_height = 0, cosine = 1, sine = 0;
    std::array<float, 3> colour{};
    float shade_x = 0, shade_y = 0;  ///< relative change of the light from the middle to the edge
    float stripes = 0, stripe_turn = 0;
    float grain = 0;      ///< relative standard deviation
    double coarsely = 1;  ///< wavelength of the grain, times LR px
};

/// The light of a rectangle of the plane while leaves are laid behind leaves.
struct Canvas {
    double x0 = 0, y0 = 0, density = 1;
    cv::Mat light;     ///< CV_32FC3
    cv::Mat coverage;  ///< CV_32F, [0,1]
    double x1() const { return x0 + light.cols / density; }
    double y1() const { return y0 + light.rows / density; }
    bool touches(const LeafPlace& p) const {
        return p.x + p.radius > x0 && p.x - p.radius < x1() && p.y + p.radius > y0 &&
               p.y - p.radius < y1();
    }
    bool full() const { return cv::mean(coverage)[0] >= 1 - open_share; }
    /// True when a leaf of at most two pixels lies behind others for certain.
    bool hides(const LeafPlace& p) const {
        if (p.radius * density > 1) return false;
        const int x = static_cast<int>((p.x - x0) * density);
        const int y = static_cast<int>((p.y - y0) * density);
        if (x < 1 || y < 1 || x + 1 >= coverage.cols || y + 1 >= coverage.rows) return false;
        for (int j = -1; j <= 1; ++j) {
            const float* row = coverage.ptr<float>(y + j) + x;
            if (row[-1] < opaque || row[0] < opaque || row[1] < opaque) return false;
        }
        return true;
    }
};

class LeafPainter {
  public:
    explicit LeafPainter(std::uint64_t seed)
        : seed_(seed),
          crowd_(mixed(seed, 1), 170),
          hue_(mixed(seed, 2), 260),
          bright_(mixed(seed, 3), 330) {}

    /// Fills a canvas; leaves that would have less than a third of a pixel as radius are left out.
    void paint_(Canvas& canvas) const;

  private:
    void paint_octave_(Canvas& canvas, int layer, int octave) const;
    Leaf leaf(Rng& rng, const LeafPlace& place, double crowd) const;
    static void lay_behind_(Canvas& canvas, const Leaf& leaf);

    std::uint64_t seed_;
    SlowField crowd_, hue_, bright_;
};

Leaf LeafPainter::leaf(Rng& rng, const LeafPlace& place, double crowd) const {
    Leaf leaf;
    leaf.place = place;
    // Shape
    leaf.bar = rng.uniform() < 0.35;
    const double flat = leaf.bar ? between(rng, 0.08, 0.5) : between(rng, 0.45, 1.0);
    const double length = leaf.bar ? 1 / std::hypot(1.0, flat) : 1;  // the corner within the radius
    const double angle = between(rng, 0, 2 * std::numbers::pi);
    leaf.half_width = static_cast<float>(place.radius * length);
    leaf.half_height = static_cast<float>(place.radius * length * flat);
    leaf.cosine = static_cast<float>(std::cos(angle));
    leaf.sine = static_cast<float>(std::sin(angle));
    // Colour: the light of the place times its own, the hue near that of the place
    const double spread = 0.3 + 1.1 * crowd;
    const double own = rng.uniform() + rng.uniform() - 1;
    const double light =
        0.16 * std::exp(1.8 * (bright_.at(place.x, place.y) - 0.5) + 1.5 * spread * own);
    const double turn = 2 * std::numbers::pi;
    const double hue = turn * (1.3 * hue_.at(place.x, place.y) + 0.25 * (rng.uniform() - 0.5));
    const double saturation = between(rng, 0.02, 0.35) * (rng.uniform() < 0.05 ? 2 : 1);
    for (std::size_t c = 0; c < 3; ++c) {
        const double phase = hue - turn * static_cast<double>(c) / 3;
        leaf.colour[c] =
            static_cast<float>(std::clamp(light * (1 + saturation * std::cos(phase)), 0.004, 0.95));
    }
    // Shading, grain, and stripes on some of the larger
    leaf.shade_x = static_cast<float>(between(rng, -0.35, 0.35));
    leaf.shade_y = static_cast<float>(between(rng, -0.35, 0.35));
    leaf.grain = static_cast<float>(between(rng, 0, 0.08) * (0.25 + 0.75 * crowd));
    leaf.coarsely = std::exp(between(rng, 0, 1.8));
    if (place.radius > 3 && rng.uniform() < 0.35) {
        leaf.stripes = static_cast<float>(between(rng, 0.04, 0.25) * (0.15 + 0.85 * crowd));
        leaf.stripe_turn = static_cast<float>(turn / between(rng, 0.7, 0.3 * place.radius + 1));
    }
    return leaf;
}

void LeafPainter::lay_behind_(Canvas& canvas, const Leaf& leaf) {
    const float w = leaf.half_width, h = leaf.half_height;
    const auto density = static_cast<float>(canvas.density);
    const float pixel = 1 / density;
    // Box of the leaf, in pixels
    const float reach_x = leaf.bar ? std::abs(leaf.cosine) * w + std::abs(leaf.sine) * h
                                   : std::hypot(leaf.cosine * w, leaf.sine * h);
    const float reach_y = leaf.bar ? std::abs(leaf.sine) * w + std::abs(leaf.cosine) * h
                                   : std::hypot(leaf.sine * w, leaf.cosine * h);
    const double centre_x = (leaf.place.x - canvas.x0) * canvas.density - 0.5;
    const double centre_y = (leaf.place.y - canvas.y0) * canvas.density - 0.5;
    const auto first = [](double at) { return std::max(0, static_cast<int>(std::ceil(at))); };
    const auto last = [](double at, int size) {
        return std::min(size - 1, static_cast<int>(std::floor(at)));
    };
    const double box_x = (reach_x + pixel) * density, box_y = (reach_y + pixel) * density;
    const int left = first(centre_x - box_x), right = last(centre_x + box_x, canvas.light.cols);
    const int top = first(centre_y - box_y), bottom = last(centre_y + box_y, canvas.light.rows);
    // An ellipse is certainly opaque below, certainly absent above these squares of rho
    const float soft = 0.75F * pixel / h;
    const float sure = soft < 1 ? (1 - soft) * (1 - soft) : 0;
    const float never = (1 + soft) * (1 + soft);
    const float per_w = 1 / w, per_h = 1 / h;
    static const TextureOctave octave(1.0, 0.7);
    // Small leaves and coarse pixels show no grain
    const bool grainy = leaf.place.radius > 1.5 && leaf.coarsely * canvas.density > 2;
    for (int row = top; row <= bottom; ++row) {
        auto* light = canvas.light.ptr<cv::Vec3f>(row);
        float* coverage = canvas.coverage.ptr<float>(row);
        const auto dy = static_cast<float>((row - centre_y) / canvas.density);
        for (int column = left; column <= right; ++column) {
            if (coverage[column] >= opaque) continue;
            const auto dx = static_cast<float>((column - centre_x) / canvas.density);
            const float u = dx * leaf.cosine + dy * leaf.sine;
            const float v = dy * leaf.cosine - dx * leaf.sine;
            // Opacity from the distance to the edge
            const float ru = u * per_w, rv = v * per_h;
            float alpha = 1;
            if (leaf.bar) {
                const float inside = std::min(w - std::abs(u), h - std::abs(v));
                alpha = std::clamp(0.5F + inside * density, 0.0F, 1.0F);
                if (alpha == 0) continue;
            } else if (const float q = ru * ru + rv * rv; q > sure) {
                if (q >= never) continue;
                const float rho = std::sqrt(q);
                const float slope =
                    std::sqrt(ru * ru * per_w * per_w + rv * rv * per_h * per_h) / rho;
                alpha = std::clamp(0.5F + (1 - rho) / slope * density, 0.0F, 1.0F);
                if (alpha == 0) continue;
            }
            // Light, behind what is there
            float surface = 1 + leaf.shade_x * ru + leaf.shade_y * rv;
            if (leaf.stripes > 0) surface += leaf.stripes * std::sin(leaf.stripe_turn * v);
            if (grainy) {
                const double per = 1 / leaf.coarsely;
                surface +=
                    leaf.grain * octave.at((leaf.place.x + dx) * per, (leaf.place.y + dy) * per);
            }
            const float share = (1 - coverage[column]) * alpha;
            coverage[column] += share;
            for (int c = 0; c < 3; ++c) {
                light[column][c] += share * surface * leaf.colour[static_cast<std::size_t>(c)];
            }
        }
    }
}

void LeafPainter::paint_octave_(Canvas& canvas, int layer, int octave) const {
    const double radius = greatest_radius / std::exp2(octave), side = cell_side * radius;
    const auto cell = [side](double at) {
        return static_cast<std::int64_t>(std::floor(at / side));
    };
    // A leaf covers about 1.0 r^2; r^2 is on average 0.46 of the greatest
    const double mean = layer_cover / octaves * side * side / (1.0 * 0.46 * radius * radius);
    const std::uint64_t key = mixed(seed_, static_cast<std::uint64_t>(64 * layer + octave + 64));
    const std::array<std::uint32_t, 2> keys{static_cast<std::uint32_t>(key),
                                            static_cast<std::uint32_t>(key >> 32)};
    const auto unit = [](std::uint32_t word) { return static_cast<double>(word) * 0x1p-32; };
    for (std::int64_t j = cell(canvas.y0 - radius); j <= cell(canvas.y1() + radius); ++j) {
        for (std::int64_t i = cell(canvas.x0 - radius); i <= cell(canvas.x1() + radius); ++i) {
            // As many leaves as the mean says, its fraction by chance; one Philox block a leaf
            const auto column = static_cast<std::uint32_t>(i), row = static_cast<std::uint32_t>(j);
            const int whole = static_cast<int>(mean);
            const bool one_more = unit(philox4x32({~0U, 0, column, row}, keys)[0]) < mean - whole;
            for (int k = 0; k < whole + (one_more ? 1 : 0); ++k) {
                const auto number = static_cast<std::uint32_t>(k);
                const auto word = philox4x32({number, 0, column, row}, keys);
                // r^-3 within the octave: 1/r^2 is uniform
                const LeafPlace place{(static_cast<double>(i) + unit(word[0])) * side,
                                      (static_cast<double>(j) + unit(word[1])) * side,
                                      radius / std::sqrt(1 + 3 * unit(word[2]))};
                if (!canvas.touches(place) || place.radius * canvas.density < 0.3 ||
                    canvas.hides(place)) {
                    continue;
                }
                const double crowd = crowd_.at(place.x, place.y);
                if (place.radius < crowded_below && unit(word[3]) > 1.1 * crowd * crowd) continue;
                Rng looks(key + 1 + number, cell_number(i, j));
                lay_behind_(canvas, leaf(looks, place, crowd));
            }
        }
    }
}

void LeafPainter::paint_(Canvas& canvas) const {
    for (int layer = 0; layer < layers && !canvas.full(); ++layer) {
        for (int octave = octaves; octave-- > 0;) {
            if (greatest_radius / std::exp2(octave) * canvas.density < smallest_pixels) continue;
            paint_octave_(canvas, layer, octave);
        }
    }
    // Where a little is still open, the leaves that are there fill it
    for (int y = 0; y < canvas.light.rows; ++y) {
        auto* light = canvas.light.ptr<cv::Vec3f>(y);
        const float* coverage = canvas.coverage.ptr<float>(y);
        for (int x = 0; x < canvas.light.cols; ++x) {
            if (coverage[x] < 0.01F) {
                light[x] = cv::Vec3f::all(ground);
            } else {
                light[x] *= 1 / coverage[x];
            }
        }
    }
}

/// A picture of `rect`, whose sides are widened to whole pixels.
void add_painted_(SimulatedWorld& world, const LeafPainter& painter, WorldRect rect,
                  double density) {
    const int columns = static_cast<int>(std::ceil(rect.width() * density));
    const int rows = static_cast<int>(std::ceil(rect.height() * density));
    rect.x1 = rect.x0 + columns / density;
    rect.y1 = rect.y0 + rows / density;
    LinearPlanes planes;
    for (cv::Mat& plane : planes) plane.create(rows, columns, CV_16U);
    const int across = (columns + tile_side - 1) / tile_side;
    const int down = (rows + tile_side - 1) / tile_side;
    tbb::parallel_for(0, across * down, [&](int task) {
        const int left = task % across * tile_side, top = task / across * tile_side;
        const cv::Size size(std::min(tile_side, columns - left), std::min(tile_side, rows - top));
        Canvas canvas{.x0 = rect.x0 + left / density,
                      .y0 = rect.y0 + top / density,
                      .density = density,
                      .light = cv::Mat::zeros(size, CV_32FC3),
                      .coverage = cv::Mat::zeros(size, CV_32F)};
        painter.paint_(canvas);
        for (int y = 0; y < size.height; ++y) {
            const auto* from = canvas.light.ptr<cv::Vec3f>(y);
            for (int c = 0; c < 3; ++c) {
                auto* to = planes[static_cast<std::size_t>(c)].ptr<std::uint16_t>(top + y) + left;
                for (int x = 0; x < size.width; ++x) {
                    const float light = std::clamp(from[x][c], 0.0F, 1.0F);
                    to[x] = static_cast<std::uint16_t>(light * 65535 + 0.5F);
                }
            }
        }
    });
    world.add_tile(rect, std::move(planes), leaf_texture);
}

}  // namespace

SimulatedWorld dead_leaves_world(const WorldExtent& extent, std::uint64_t seed) {
    const LeafPainter painter(seed);
    const double fine = std::min(extent.finest, fine_density);
    SimulatedWorld world;
    add_painted_(world, painter, extent.detail, fine);
    add_painted_(world, painter, extent.frame, std::min(coarse_density, fine));
    return world;
}

}  // namespace ultrasr
