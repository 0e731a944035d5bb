// Formula letters as in Wang et al. 2004: mu, sigma, C1, C2.
#include "metrics/ssim.h"

#include <array>
#include <cmath>
#include <vector>

#include "data/image.h"
#include "metrics/input_check.h"
#include "metrics/luma.h"
#include "metrics/metric.h"
#include "metrics/sum.h"

namespace ultrasr {
namespace {

constexpr int radius = 5;
constexpr int window_side = 2 * radius + 1;
constexpr double window_sigma = 1.5;
constexpr double c1 = (0.01 * 255) * (0.01 * 255);
constexpr double c2 = (0.03 * 255) * (0.03 * 255);

/// One half of the symmetric one-dimensional window, centre first.
///
/// The reference rounds the 121 products to float32, so that they sum to 1 - 6.2e-9. The same
/// sum is given to this separable window; what remains is below 1e-9 in a mean SSIM.
std::array<double, radius + 1> half_window() {
    std::array<double, radius + 1> w{};
    double sum = 0.0;
    for (int k = -radius; k <= radius; ++k) {
        const double value = std::exp(-k * k / (2.0 * window_sigma * window_sigma));
        if (k >= 0) w[static_cast<unsigned>(k)] = value;
        sum += value;
    }
    for (double& value : w) value /= sum;

    double rounded_sum = 0.0;
    for (int i = -radius; i <= radius; ++i) {
        for (int j = -radius; j <= radius; ++j) {
            rounded_sum += static_cast<float>(w[static_cast<unsigned>(std::abs(i))] *
                                              w[static_cast<unsigned>(std::abs(j))]);
        }
    }
    for (double& value : w) value *= std::sqrt(rounded_sum);
    return w;
}

/// Weighted sum of 11 rows, the two rows of equal weight added first (exact: see Samples).
template <class T>
void filter_columns(const std::array<const T*, window_side>& rows, int width,
                    const std::array<double, radius + 1>& w, double* out) {
    const T *r0 = rows[5], *r1 = rows[4], *r2 = rows[3], *r3 = rows[2], *r4 = rows[1],
            *r5 = rows[0];
    const T *s1 = rows[6], *s2 = rows[7], *s3 = rows[8], *s4 = rows[9], *s5 = rows[10];
    for (int x = 0; x < width; ++x) {
        double sum = w[0] * static_cast<double>(r0[x]);
        sum += w[1] * static_cast<double>(r1[x] + s1[x]);
        sum += w[2] * static_cast<double>(r2[x] + s2[x]);
        sum += w[3] * static_cast<double>(r3[x] + s3[x]);
        sum += w[4] * static_cast<double>(r4[x] + s4[x]);
        sum += w[5] * static_cast<double>(r5[x] + s5[x]);
        out[x] = sum;
    }
}

/// Weighted sum of the 11 values that begin at v.
double filter_row(const double* v, const std::array<double, radius + 1>& w) {
    double sum = w[0] * v[5];
    sum += w[1] * (v[4] + v[6]);
    sum += w[2] * (v[3] + v[7]);
    sum += w[3] * (v[2] + v[8]);
    sum += w[4] * (v[1] + v[9]);
    sum += w[5] * (v[0] + v[10]);
    return sum;
}

template <class Product>
SsimMeans means(const Plane<float>& a, const Plane<float>& b) {
    static const std::array<double, radius + 1> w = half_window();
    const int width = a.width();
    const int out_width = width - 2 * radius;
    const int out_height = a.height() - 2 * radius;
    const auto columns = static_cast<std::size_t>(width);

    // Eleven rows of a^2 + b^2 and of a b, reused in turn: the variances are needed only in sum
    std::vector<Product> squares(columns * window_side);
    std::vector<Product> products(columns * window_side);
    const auto ring = [&](std::vector<Product>& buffer, int y) {
        return buffer.data() + columns * static_cast<std::size_t>(y % window_side);
    };
    const auto multiply_row = [&](int y) {
        const float *pa = a.row(y), *pb = b.row(y);
        Product *s = ring(squares, y), *p = ring(products, y);
        for (int x = 0; x < width; ++x) {
            const auto va = static_cast<Product>(pa[x]);
            const auto vb = static_cast<Product>(pb[x]);
            s[x] = va * va + vb * vb;
            p[x] = va * vb;
        }
    };
    for (int y = 0; y < 2 * radius; ++y) multiply_row(y);

    std::vector<double> mean_a(columns), mean_b(columns), mean_s(columns), mean_p(columns);
    std::vector<double> map(columns), contrast_map(columns);
    LaneSum ssim_sum, contrast_sum;
    for (int y = 0; y < out_height; ++y) {
        multiply_row(y + 2 * radius);

        // Filter downwards
        std::array<const float*, window_side> rows_a{}, rows_b{};
        std::array<const Product*, window_side> rows_s{}, rows_p{};
        for (int k = 0; k < window_side; ++k) {
            const auto i = static_cast<unsigned>(k);
            rows_a[i] = a.row(y + k);
            rows_b[i] = b.row(y + k);
            rows_s[i] = ring(squares, y + k);
            rows_p[i] = ring(products, y + k);
        }
        filter_columns(rows_a, width, w, mean_a.data());
        filter_columns(rows_b, width, w, mean_b.data());
        filter_columns(rows_s, width, w, mean_s.data());
        filter_columns(rows_p, width, w, mean_p.data());

        // Filter sideways and compare
        const double *va = mean_a.data(), *vb = mean_b.data();
        const double *vs = mean_s.data(), *vp = mean_p.data();
        double *out = map.data(), *out_contrast = contrast_map.data();
        for (int x = 0; x < out_width; ++x) {
            const double mu_a = filter_row(va + x, w);
            const double mu_b = filter_row(vb + x, w);
            const double mu_ab = mu_a * mu_b;
            const double mu_squares = mu_a * mu_a + mu_b * mu_b;
            const double sigma_ab = filter_row(vp + x, w) - mu_ab;
            const double sigma_squares = filter_row(vs + x, w) - mu_squares;
            const double contrast = (2.0 * sigma_ab + c2) / (sigma_squares + c2);
            const double clamped = contrast > 0.0 ? contrast : 0.0;
            out_contrast[x] = clamped;
            out[x] = (2.0 * mu_ab + c1) / (mu_squares + c1) * clamped;
        }
        ssim_sum.add(out_width, [out](int x) { return out[x]; });
        contrast_sum.add(out_width, [out_contrast](int x) { return out_contrast[x]; });
    }
    const double places = double{1} * out_width * out_height;
    return {ssim_sum.total() / places, contrast_sum.total() / places};
}

class Ssim : public Metric {
  public:
    Ssim(const MetricInfo& info, Luma luma, Profile profile)
        : info_(info), luma_(luma), profile_(profile) {}

    double score(const Image& sr, const Image& hr) const override {
        check_input(info_, sr, hr);
        return ssim_means(rounded_luma(sr, luma_, profile_), rounded_luma(hr, luma_, profile_),
                          Samples::whole)
            .ssim;
    }

  private:
    const MetricInfo& info_;
    Luma luma_;
    Profile profile_;
};

}  // namespace

SsimMeans ssim_means(const Plane<float>& a, const Plane<float>& b, Samples samples) {
    return samples == Samples::whole ? means<float>(a, b) : means<double>(a, b);
}

extern const MetricInfo ssim_y601, ssim_yiq;

const MetricInfo ssim_y601{
    .name = "ssim-y601",
    .title = "SSIM",
    .unit = "",
    .source = "Wang et al. 2004, 11 x 11 Gaussian window, on BT.601 studio luma rounded to 8 bit",
    .reference = Reference::full,
    .better = Better::higher,
    .decimals = 4,
    .min_side = window_side,
    .settings = {{"setting", "ssim_y_ycbcr"},
                 {"luma", "BT.601 studio swing, rounded to 8 bit"},
                 {"contrast_structure", "clamped at 0"},
                 {"crop_border", "0"}},
    .make = [](const MetricOptions& o) -> MetricPtr {
        return std::make_unique<Ssim>(ssim_y601, Luma::y601, o.profile);
    }};

const MetricInfo ssim_yiq{
    .name = "ssim-yiq",
    .title = "SSIM (YIQ)",
    .unit = "",
    .source = "Wang et al. 2004, 11 x 11 Gaussian window, on full-range luma rounded to 8 bit",
    .reference = Reference::full,
    .better = Better::higher,
    .decimals = 4,
    .min_side = window_side,
    .settings = {{"setting", "ssim_y_yiq"},
                 {"luma", "YIQ full range, rounded to 8 bit"},
                 {"contrast_structure", "clamped at 0"},
                 {"crop_border", "0"}},
    .make = [](const MetricOptions& o) -> MetricPtr {
        return std::make_unique<Ssim>(ssim_yiq, Luma::yiq, o.profile);
    }};

}  // namespace ultrasr
