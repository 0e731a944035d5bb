#include "registration/refine.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/base/error.h"
#include "registration/least_squares.h"

namespace ultrasr {
namespace {

constexpr double wide_blur = 0.55;       // LR px, a lens and sensor between 0.35 and 0.75
constexpr double contrast_sigma = 5;     // LR px, local contrast
constexpr double contrast_floor = 0.03;  // of full scale
constexpr double prior_strength = 25;    // neighbouring pixels are not independent
constexpr double longest_step = 1.5;     // LR px
constexpr double least_step = 0.0015;    // LR px
constexpr double burnt_share = 0.02;     // after a Gaussian of 1 LR px
constexpr std::size_t least_pixels = 400;
constexpr int window_margin = 16;  // LR px around the footprint, for local contrast

/// One level of the refinement: blur in LR px, rounds, and whether only the similarity is free.
struct Level {
    double blur;
    int rounds;
    bool similarity;
};

/// k is the last parameter of the models that have one.
bool has_k(MotionModel model) {
    return model == MotionModel::camera || model == MotionModel::homography_k;
}

std::vector<int> free_parameters(MotionModel model, bool similarity, bool k_fixed) {
    std::vector<int> free;
    const int count = CameraMap(model, {{1, 1}, {1, 1}, 1, 1}).parameters();
    const int used = similarity                ? (model == MotionModel::camera ? 4 : 6)
                     : k_fixed && has_k(model) ? count - 1
                                               : count;
    for (int i = 0; i < used; ++i) free.push_back(i);
    return free;
}

/// Not 0 where a burnt-out spot is within reach.
cv::Mat burnt_mask(const cv::Mat& burnt) {
    const cv::Mat spread = blurred(burnt, 1);
    return spread > burnt_share;
}

AlignmentPictures level_pictures(const WorkPictures& work, double blur) {
    AlignmentPictures pictures;
    pictures.window = work.window;
    const double sigma = std::hypot(contrast_sigma, 2 * blur);
    pictures.wide = local_contrast(coded(blurred(work.wide.light, blur)), sigma, contrast_floor);

    // Blurred levels need fewer samples of the tele picture
    const int finer = blur >= 1 ? 2 : samples_per_pixel;
    cv::Mat tele = work.tele_blurred;
    if (finer != samples_per_pixel) {
        tele = shrink_area(
            tele, {tele.cols * finer / samples_per_pixel, tele.rows * finer / samples_per_pixel});
    }
    if (blur > 0) tele = blurred(tele, blur * finer);
    tele = work.tone(coded(tele));
    pictures.tele = local_contrast(tele, sigma * finer, contrast_floor);

    pictures.usable = burnt_mask(work.wide.burnt) == 0;
    pictures.tele_burnt = burnt_mask(work.tele_burnt);
    return pictures;
}

/// Both pictures a little blurred, without local contrast; tone not matched.
constexpr double plain_blur = 1;  // LR px
constexpr int plain_samples = 2;  // of the tele picture a wide pixel

AlignmentPictures plain_pictures(const WorkPictures& work) {
    AlignmentPictures pictures;
    pictures.window = work.window;
    pictures.wide = coded(blurred(work.wide.light, plain_blur));
    const cv::Mat tele = shrink_area(work.tele_blurred,
                                     {work.tele_blurred.cols * plain_samples / samples_per_pixel,
                                      work.tele_blurred.rows * plain_samples / samples_per_pixel});
    pictures.tele = coded(blurred(tele, plain_blur * plain_samples));
    pictures.usable = burnt_mask(work.wide.burnt) == 0;
    pictures.tele_burnt = burnt_mask(work.tele_burnt);
    return pictures;
}

ToneCurve tone_between(const AlignmentPictures& plain, const CameraMap& map) {
    return fit_tone(plain.wide, plain.tele, plain.usable, plain.window, map);
}

/// Where the rounds of one level end.
struct LevelEnd {
    CameraMap map;
    std::vector<double> brightness;
    NormalEquations last;
    int rounds = 0;
    bool solved = false;
};

void add_prior(NormalEquations& equations, const CameraMap& map, const std::vector<int>& free,
               std::size_t basis) {
    const Parameters sigmas = prior_sigmas(map.model());
    const double noise = equations.sigma * equations.sigma;
    const auto n = static_cast<std::size_t>(equations.unknowns);
    for (std::size_t i = 0; i < free.size(); ++i) {
        const auto parameter = static_cast<std::size_t>(free[i]);
        if (std::isinf(sigmas[parameter])) continue;
        const double strength = prior_strength * noise / (sigmas[parameter] * sigmas[parameter]);
        equations.matrix[(basis + i) * n + basis + i] += strength;
        equations.right[basis + i] -= strength * map.theta()[parameter];
    }
}

PixelRect footprint_of(const CameraMap& map) {
    const PixelSize tele = map.geometry().tele;
    double x0 = std::numeric_limits<double>::infinity(), y0 = x0, x1 = -x0, y1 = -x0;
    for (const double tx : {0.0, 0.5, 1.0}) {
        for (const double ty : {0.0, 0.5, 1.0}) {
            const PixelPoint p = map.inverse({tx * (tele.width - 1), ty * (tele.height - 1)});
            x0 = std::min(x0, p.x), x1 = std::max(x1, p.x);
            y0 = std::min(y0, p.y), y1 = std::max(y1, p.y);
        }
    }
    const int x = static_cast<int>(std::floor(x0)), y = static_cast<int>(std::floor(y0));
    return {x, y, static_cast<int>(std::ceil(x1)) - x + 1, static_cast<int>(std::ceil(y1)) - y + 1};
}

LevelEnd run_level(const AlignmentPictures& pictures, const CameraMap& start, Brightness brightness,
                   const std::vector<int>& free, int rounds, int rim, const cv::Mat& mask = {}) {
    LevelEnd end;
    end.map = start;
    const auto basis = static_cast<std::size_t>(basis_size(brightness));
    const PixelRect area = footprint_of(start);
    Alignment alignment(pictures, brightness, rim);
    for (int round = 0; round < rounds; ++round) {
        alignment.read(end.map, mask);
        if (alignment.pixels() < least_pixels) return end;
        if (end.brightness.empty()) end.brightness = alignment.fit_brightness();
        if (end.brightness.empty()) return end;
        NormalEquations equations = alignment.equations(end.brightness, free);
        add_prior(equations, end.map, free, basis);
        const std::vector<double> solution = solve_symmetric(equations.matrix, equations.right);
        if (solution.empty()) return end;
        end.brightness.assign(solution.begin(),
                              solution.begin() + static_cast<std::ptrdiff_t>(basis));

        // Step, not further than the pictures can be trusted to be linear
        const auto stepped = [&](double share) {
            Parameters theta = end.map.theta();
            for (std::size_t i = 0; i < free.size(); ++i) {
                theta[static_cast<std::size_t>(free[i])] += share * solution[basis + i];
            }
            return CameraMap(end.map.model(), end.map.geometry(), theta);
        };
        CameraMap next = stepped(1);
        double moved = rms_between(end.map, next, area);
        if (!std::isfinite(moved)) return end;
        if (moved > longest_step) {
            next = stepped(longest_step / moved);
            moved = longest_step;
        }
        end.map = next;
        ++end.rounds;
        if (moved < least_step) break;
    }
    end.solved = true;
    return end;
}

/// Tele samples at the border that local contrast sees differently from the wide picture.
int rim_of(double blur, int finer) {
    return static_cast<int>(std::lround(1.6 * std::hypot(contrast_sigma, 2 * blur) * finer));
}

cv::Mat checkerboard(PixelSize size, int parity) {
    cv::Mat mask(size.height, size.width, CV_8U);
    for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
            mask.at<unsigned char>(y, x) = (x / 16 + y / 16) % 2 == parity ? 255 : 0;
        }
    }
    return mask;
}

}  // namespace

PixelSize work_size(const PairGeometry& geometry) {
    const auto lr = [&](int tele) {
        return std::max(1, static_cast<int>(std::lround(tele / geometry.scale)));
    };
    return {samples_per_pixel * lr(geometry.tele.width),
            samples_per_pixel * lr(geometry.tele.height)};
}

WorkPictures work_pictures(const PairGeometry& geometry, const PixelRect& window,
                           const Luminance& wide, const Luminance& tele) {
    WorkPictures work{window, wide, {}, {}, geometry, {}};
    // The wide pixel: lens blur and pixel box, less what the samples and the spline blur already
    const double n = samples_per_pixel;
    const double variance = wide_blur * wide_blur + 1.0 / 12 - 1 / (12 * n * n) - 1 / (3 * n * n);
    work.tele_blurred = blurred(tele.light, std::sqrt(variance) * n);
    work.tele_burnt = tele.burnt;
    return work;
}

PixelRect window_of(const CameraMap& map) {
    const PixelRect footprint = footprint_of(map);
    const int x0 = std::max(0, footprint.x - window_margin);
    const int y0 = std::max(0, footprint.y - window_margin);
    const int x1 =
        std::min(map.geometry().wide.width, footprint.x + footprint.width + window_margin);
    const int y1 =
        std::min(map.geometry().wide.height, footprint.y + footprint.height + window_margin);
    if (x1 <= x0 || y1 <= y0) return {};
    return {x0, y0, x1 - x0, y1 - y0};
}

PixelFit refine_pixels(WorkPictures& work, const CameraMap& start, const RefineOptions& options) {
    std::vector<Level> levels;
    if (options.from_afar) levels.push_back({3, 8, true});
    levels.push_back({1.5, 8, true});
    levels.push_back({1, 8, false});
    levels.push_back({0, 15, false});
    PixelFit fit;
    fit.map = start;
    if (options.fixed_k && has_k(start.model())) {
        Parameters theta = start.theta();
        theta[static_cast<std::size_t>(start.parameters() - 1)] = *options.fixed_k;
        fit.map = CameraMap(start.model(), start.geometry(), theta);
    }
    const auto basis = static_cast<std::size_t>(basis_size(options.brightness));
    const bool k_fixed = options.fixed_k.has_value();
    const std::vector<int> all = free_parameters(start.model(), false, k_fixed);
    AlignmentPictures pictures;
    std::vector<double> brightness;
    const bool toned = options.brightness == Brightness::basis;
    if (options.rounds_only) {
        levels.clear();
        if (toned) work.tone = tone_between(plain_pictures(work), fit.map);
        pictures = level_pictures(work, 0);
    }
    for (const Level& level : levels) {
        if (toned && (&level == &levels.front() || level.blur == 0)) {
            work.tone = tone_between(plain_pictures(work), fit.map);
        }
        pictures = level_pictures(work, level.blur);
        const LevelEnd end =
            run_level(pictures, fit.map, options.brightness,
                      free_parameters(start.model(), level.similarity, k_fixed), level.rounds,
                      rim_of(level.blur, level.blur >= 1 ? 2 : samples_per_pixel));
        fit.rounds += end.rounds;
        fit.map = end.map;
        brightness = end.brightness;
        if (!end.solved) return fit;
    }

    // Take stock at the end point
    Alignment alignment(pictures, options.brightness, rim_of(0, samples_per_pixel));
    alignment.read(fit.map);
    fit.pixels = alignment.pixels();
    if (fit.pixels < least_pixels) return fit;
    if (brightness.empty()) brightness = alignment.fit_brightness();
    if (brightness.empty()) return fit;
    NormalEquations equations = alignment.equations(brightness, all);
    add_prior(equations, fit.map, all, basis);
    std::vector<double> inverse;
    const std::vector<double> solution =
        solve_symmetric(equations.matrix, equations.right, &inverse);
    if (solution.empty()) return fit;
    const auto n = static_cast<std::size_t>(equations.unknowns);
    const auto parameters = static_cast<std::size_t>(fit.map.parameters());
    fit.covariance.assign(parameters * parameters, 0.0);
    for (std::size_t i = 0; i < all.size(); ++i) {
        for (std::size_t j = 0; j < all.size(); ++j) {
            fit.covariance[i * parameters + j] =
                equations.sigma * equations.sigma * inverse[(basis + i) * n + basis + j];
        }
    }
    fit.brightness = brightness;
    fit.residual = equations.sigma;
    fit.correlation = equations.correlation;
    fit.kept = equations.kept;
    fit.weight = alignment.weights().clone();
    fit.usable = true;
    return fit;
}

double blur_difference(const WorkPictures& work, const PixelFit& fit) {
    constexpr auto nothing = std::numeric_limits<double>::quiet_NaN();
    AlignmentPictures pictures = plain_pictures(work);
    // With Brightness::gain the refinement has matched no tone
    const ToneCurve tone = work.tone.is_identity() ? tone_between(pictures, fit.map) : work.tone;
    pictures.tele = tone(pictures.tele);
    Alignment alignment(pictures, Brightness::basis, rim_of(plain_blur, plain_samples));
    alignment.read(fit.map);
    if (alignment.pixels() < least_pixels) return nothing;
    std::vector<double> coefficients = alignment.fit_brightness();
    for (int round = 0; round < 3 && !coefficients.empty(); ++round) {
        const NormalEquations equations = alignment.equations(coefficients, {});
        coefficients = solve_symmetric(equations.matrix, equations.right);
    }
    return coefficients.empty() ? nothing : coefficients.back();
}

double formal_sigma(const PixelFit& fit, const PixelRect& area) {
    const auto n = static_cast<std::size_t>(fit.map.parameters());
    const auto grid = check_grid(area);
    double sum = 0;
    for (const PixelPoint& x : grid) {
        MapDerivatives d;
        fit.map.with_derivatives(x, d);
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t j = 0; j < n; ++j) {
                sum += fit.covariance[i * n + j] * (d.by_parameter[i].x * d.by_parameter[j].x +
                                                    d.by_parameter[i].y * d.by_parameter[j].y);
            }
        }
    }
    return std::sqrt(sum / static_cast<double>(grid.size())) / fit.map.geometry().scale;
}

double half_split(const WorkPictures& work, const PixelFit& fit, const PixelRect& area,
                  const RefineOptions& options) {
    const AlignmentPictures pictures = level_pictures(work, 0);
    const std::vector<int> all =
        free_parameters(fit.map.model(), false, options.fixed_k.has_value());
    std::vector<CameraMap> halves;
    for (const int parity : {0, 1}) {
        const LevelEnd end =
            run_level(pictures, fit.map, options.brightness, all, 6, rim_of(0, samples_per_pixel),
                      checkerboard(work.wide.size(), parity));
        if (!end.solved) return std::numeric_limits<double>::quiet_NaN();
        halves.push_back(end.map);
    }
    return 0.5 * rms_between(halves[0], halves[1], area);
}

}  // namespace ultrasr
