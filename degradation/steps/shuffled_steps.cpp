#include "degradation/steps/shuffled_steps.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "degradation/json_fields.h"
#include "degradation/steps/exact_math.h"
#include "degradation/steps/noise_pixel.h"
#include "degradation/steps/variates.h"

namespace ultrasr {
namespace {

using Matrix = std::array<std::array<double, 3>, 3>;

Matrix product(const Matrix& a, const Matrix& b) {
    Matrix c{};
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) {
            for (std::size_t k = 0; k < 3; ++k) c[i][j] += a[i][k] * b[k][j];
        }
    }
    return c;
}

Matrix transposed(const Matrix& a) {
    Matrix t{};
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) t[j][i] = a[i][j];
    }
    return t;
}

struct Eigen {
    Matrix vectors;  ///< in columns
    std::array<double, 3> values;
};

/// Of a symmetric matrix, by Jacobi's rotations. Golub and Van Loan, Matrix Computations, 8.5.
Eigen eigen_of(Matrix a) {
    Matrix v{};
    for (std::size_t i = 0; i < 3; ++i) v[i][i] = 1;
    for (int sweep = 0; sweep < 12; ++sweep) {
        for (const auto& [p, q] : {std::pair{std::size_t{0}, std::size_t{1}},
                                   {std::size_t{0}, std::size_t{2}},
                                   {std::size_t{1}, std::size_t{2}}}) {
            if (a[p][q] == 0) continue;
            const double tau = (a[q][q] - a[p][p]) / (2 * a[p][q]);
            const double t = (tau >= 0 ? 1 : -1) / (std::abs(tau) + std::sqrt(1 + tau * tau));
            const double c = 1 / std::sqrt(1 + t * t), s = t * c;
            Matrix rotation{};
            for (std::size_t i = 0; i < 3; ++i) rotation[i][i] = 1;
            rotation[p][p] = rotation[q][q] = c;
            rotation[p][q] = s;
            rotation[q][p] = -s;
            a = product(transposed(rotation), product(a, rotation));
            v = product(v, rotation);
        }
    }
    return {v, {a[0][0], a[1][1], a[2][2]}};
}

/// The left singular vectors of a matrix in columns, the largest singular value first as LAPACK
/// orders them: which channel gets which variance depends on it.
Matrix left_singular_vectors(const Matrix& m) {
    const Eigen e = eigen_of(product(m, transposed(m)));
    std::array<std::size_t, 3> order{0, 1, 2};
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return e.values[a] > e.values[b]; });
    Matrix U{};
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) U[i][j] = e.vectors[i][order[j]];
    }
    return U;
}

/// Calls `take(pixel, word)` for every pixel of a plane.
template <class Take>
void for_each_word(const StreamKey& key, std::uint32_t channel, std::size_t pixels, Take&& take) {
    for (std::size_t p = 0; p < pixels; p += 4) {
        const auto words = stream_words<1>(key, channel, static_cast<std::uint32_t>(p / 4));
        for (std::size_t w = 0; w < std::min<std::size_t>(4, pixels - p); ++w) {
            take(p + w, words.word[w][0]);
        }
    }
}

void clamp_(Planar& picture) {
    for (std::size_t i = 0; i < picture.values(); ++i) {
        picture.data_()[i] = clamp(picture.data()[i], 0.0F, 1.0F);
    }
}

}  // namespace

std::array<std::array<double, 3>, 3> correlated_mixing(const std::array<double, 3>& d,
                                                       const std::array<double, 9>& a,
                                                       double strength) {
    Matrix m{};
    for (std::size_t i = 0; i < 9; ++i) m[i / 3][i % 3] = a[i];
    const Matrix U = left_singular_vectors(m);
    Matrix D{};
    for (std::size_t i = 0; i < 3; ++i) D[i][i] = d[i];
    Matrix covariance = product(transposed(U), product(D, U));
    for (auto& row : covariance) {
        for (double& value : row) value = std::abs(strength * strength * value);
    }
    const Eigen e = eigen_of(covariance);
    Matrix mixing{};
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) {
            mixing[i][j] = e.vectors[i][j] * std::sqrt(std::abs(e.values[j]));
        }
    }
    return mixing;
}

Planar MixedNoiseStep::apply(Planar picture, StepContext& context) const {
    if (multiplied) clamp_(picture);
    const StreamKey key = field.key(context.stream);
    const std::size_t n = picture.plane_values();
    Planar z(gray ? 1 : 3, picture.height(), picture.width());
    for (int c = 0; c < z.channels(); ++c) {
        float* plane = z.plane_(c);
        for_each_word(key, gray ? 3U : static_cast<std::uint32_t>(c), n,
                      [&](std::size_t i, std::uint32_t word) {
                          plane[i] = normal_of_word(word, normal_table);
                      });
    }
    for (int c = 0; c < 3; ++c) {
        std::array<float, 3> m{};
        for (std::size_t j = 0; j < 3; ++j) {
            m[j] = static_cast<float>(mixing[static_cast<std::size_t>(c)][j]);
        }
        float* to = picture.plane_(c);
        for (std::size_t i = 0; i < n; ++i) {
            float noise = m[0] * z.plane(0)[i];
            if (!gray) noise = fused(m[2], z.plane(2)[i], fused(m[1], z.plane(1)[i], noise));
            to[i] = clamp(to[i] + (multiplied ? to[i] * noise : noise), 0.0F, 1.0F);
        }
    }
    return picture;
}

Json MixedNoiseStep::params() const {
    return {{"mixing", mixing},
            {"gray", gray},
            {"multiplied", multiplied},
            {"field", field.slot},
            {"level", field.level}};
}

Planar PhotonNoiseStep::apply(Planar picture, StepContext& context) const {
    const StreamKey key = field.key(context.stream);
    // Thresholds of the levels that occur
    std::vector<std::uint32_t> thresholds;
    std::array<PoissonEntry, 256> entries;
    std::array<bool, 256> made{};
    const auto deviation = [&](std::uint8_t level, std::uint32_t word) {
        if (!std::exchange(made[level], true)) {
            entries[level] = make_poisson_entry(level * vals / 255.0, thresholds);
        }
        const int count = poisson_of_word(word, entries[level], thresholds.data());
        return static_cast<float>(count / vals - level / 255.0);
    };
    const std::size_t n = picture.plane_values();
    if (!gray) {
        for (int c = 0; c < 3; ++c) {
            float* to = picture.plane_(c);
            for_each_word(key, static_cast<std::uint32_t>(c), n,
                          [&](std::size_t i, std::uint32_t word) {
                              const std::uint8_t level = poisson_level(to[i]);
                              const float base = static_cast<float>(level) / 255.0F;
                              to[i] = clamp(base + deviation(level, word), 0.0F, 1.0F);
                          });
        }
        return picture;
    }
    float *r = picture.plane_(0), *g = picture.plane_(1), *b = picture.plane_(2);
    for_each_word(key, 3, n, [&](std::size_t i, std::uint32_t word) {
        // The reference rounds the picture, then its grey
        const auto rounded = [](float v) { return static_cast<float>(poisson_level(v)) / 255.0F; };
        const float red = rounded(r[i]), green = rounded(g[i]), blue = rounded(b[i]);
        const float noise =
            deviation(poisson_level(0.299F * red + 0.587F * green + 0.114F * blue), word);
        r[i] = clamp(red + noise, 0.0F, 1.0F);
        g[i] = clamp(green + noise, 0.0F, 1.0F);
        b[i] = clamp(blue + noise, 0.0F, 1.0F);
    });
    return picture;
}

Json PhotonNoiseStep::params() const {
    return {{"vals", vals}, {"gray", gray}, {"field", field.slot}, {"level", field.level}};
}

Planar ShiftedDownsampleStep::apply(Planar picture, StepContext&) const {
    // The kernel at positions moved by (s - 1) / 2, between its taps linearly, its rim repeated
    constexpr int size = 25;
    const double shift = (scale - 1) * 0.5;
    const auto gaussian = [&](int i) {
        const double d = std::clamp(i, 0, size - 1) - size / 2;
        return exact::exp(-0.5 * d * d / (sigma * sigma));
    };
    std::array<double, size> line{};
    double sum = 0;
    for (int i = 0; i < size; ++i) {
        const double at = std::min(i + shift, size - 1.0);
        const int below = static_cast<int>(at);
        line[static_cast<std::size_t>(i)] =
            (below + 1 - at) * gaussian(below) + (at - below) * gaussian(below + 1);
        sum += line[static_cast<std::size_t>(i)];
    }
    // It is a convolution there, a correlation here: turned round
    std::vector<float> taps(size * size);
    for (std::size_t y = 0; y < size; ++y) {
        for (std::size_t x = 0; x < size; ++x) {
            taps[y * size + x] =
                static_cast<float>(line[size - 1 - y] * line[size - 1 - x] / (sum * sum));
        }
    }
    const Planar soft = blur(picture, make_kernel(size, std::move(taps)));
    Planar out(3, (picture.height() + scale - 1) / scale, (picture.width() + scale - 1) / scale);
    for (int c = 0; c < 3; ++c) {
        for (int y = 0; y < out.height(); ++y) {
            const float* from = soft.row(c, y * scale);
            float* to = out.row_(c, y);
            for (int x = 0; x < out.width(); ++x) to[x] = from[x * scale];
        }
    }
    return out;
}

Json ShiftedDownsampleStep::params() const { return {{"sigma", sigma}, {"scale", scale}}; }

extern const DegradationInfo mixed_noise_degradation, photon_noise_degradation,
    shifted_downsample_degradation;

const DegradationInfo mixed_noise_degradation{
    .name = "mixed_noise",
    .title = "normal noise with correlated channels, added or multiplied (speckle)",
    .source = "Zhang et al. 2021 (BSRGAN), sec. 3.3; degradation.md 2.1",
    .example = R"({"mixing": [[0.05, 0, 0], [0.02, 0.04, 0], [0, 0, 0.03]], "gray": false,
                   "multiplied": false})",
    .make = [](const Json& params, const StepInputs&, Tier) {
        JsonFields fields(params, "mixed_noise");
        auto step = std::make_shared<MixedNoiseStep>();
        const Json& rows = fields.value("mixing");
        require(rows.is_array() && rows.size() == 3, "mixed_noise: 'mixing' has three rows");
        for (std::size_t i = 0; i < 3; ++i) {
            require(rows[i].is_array() && rows[i].size() == 3,
                    "mixed_noise: a row of 'mixing' has three numbers");
            for (std::size_t j = 0; j < 3; ++j) {
                require(rows[i][j].is_number() && std::abs(rows[i][j].get<double>()) <= 10,
                        "mixed_noise: 'mixing' holds numbers of -10 to 10");
                step->mixing[i][j] = rows[i][j].get<double>();
            }
        }
        step->gray = fields.flag("gray", false);
        step->multiplied = fields.flag("multiplied", false);
        step->field = FieldName::from_fields(fields, 300);
        fields.done();
        return step;
    }};

const DegradationInfo photon_noise_degradation{
    .name = "photon_noise",
    .title = "Poisson noise of any number of photons",
    .source = "Zhang et al. 2021 (BSRGAN plus); degradation.md 2.1",
    .example = R"({"vals": 730.0, "gray": false})",
    .make = [](const Json& params, const StepInputs&, Tier) {
        JsonFields fields(params, "photon_noise");
        auto step = std::make_shared<PhotonNoiseStep>();
        step->vals = fields.number("vals");
        step->gray = fields.flag("gray", false);
        step->field = FieldName::from_fields(fields, 300);
        fields.done();
        require(step->vals >= 1 && step->vals <= 20000,
                "photon_noise: 'vals' lies in 1 to 20000, not at {}", step->vals);
        return step;
    }};

const DegradationInfo shifted_downsample_degradation{
    .name = "shifted_downsample",
    .title = "Gaussian moved by half a step, then every s-th pixel",
    .source = "Zhang et al. 2021 (BSRGAN), sec. 3.2; degradation.md 2.1",
    .example = R"({"sigma": 1.1, "scale": 2})",
    .make = [](const Json& params, const StepInputs&, Tier) {
        JsonFields fields(params, "shifted_downsample");
        auto step = std::make_shared<ShiftedDownsampleStep>();
        step->sigma = fields.number("sigma");
        step->scale = fields.integer("scale");
        fields.done();
        require(step->sigma > 0 && step->sigma <= 100,
                "shifted_downsample: 'sigma' lies above 0 and up to 100, not at {}", step->sigma);
        require(step->scale >= 1 && step->scale <= 63,
                "shifted_downsample: 'scale' lies in 1 to 63, not at {}", step->scale);
        return step;
    }};

}  // namespace ultrasr
