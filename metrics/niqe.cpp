// Natural image quality evaluator: the distance between the local statistics of a picture and
// those of pristine pictures. Needs no HR picture.
// Source: Mittal, Soundararajan, Bovik, "Making a completely blind image quality analyzer", IEEE
// SPL 2013; details as metrics.md 6.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "data/image.h"
#include "metrics/input_check.h"
#include "metrics/luma.h"
#include "metrics/metric.h"
#include "metrics/niqe_features.h"
#include "metrics/niqe_parameters.h"

namespace ultrasr {
namespace {

using Features = std::array<double, niqe_features>;
using Matrix = std::array<Features, niqe_features>;

/// The part of the picture that whole blocks cover, as rounded luma. The rest takes no part, not
/// even in filtering.
Plane<float> covered_luma(const Image& image, Luma luma, Profile profile) {
    const int width = image.width() / niqe_block * niqe_block;
    const int height = image.height() / niqe_block * niqe_block;
    return rounded_luma(Image(image.mat()(cv::Rect(0, 0, width, height))), luma, profile);
}

/// Appends the features of one scale to those of each block, row by row of blocks.
template <class T>
void measure_scale_(std::vector<Features>& blocks, const Plane<T>& luma, int side,
                    std::size_t first) {
    std::size_t block = 0;
    for (int y = 0; y < luma.height(); y += side) {
        const Plane<double> strip = locally_normalised(luma, y, side);
        for (int x = 0; x < luma.width(); x += side) {
            const BlockFeatures features = block_features(strip, x, 0, side);
            std::copy(features.begin(), features.end(),
                      blocks[block].begin() + static_cast<std::ptrdiff_t>(first));
            ++block;
        }
    }
}

bool is_whole(const Features& features) {
    return std::none_of(features.begin(), features.end(), [](double v) { return std::isnan(v); });
}

/// Mean of each feature over the blocks where it is a number; NaN where there is none.
Features mean_without_nan(const std::vector<Features>& blocks) {
    Features mean{};
    for (std::size_t i = 0; i < mean.size(); ++i) {
        double sum = 0.0;
        double count = 0.0;
        for (const Features& block : blocks) {
            if (std::isnan(block[i])) continue;
            sum += block[i];
            count += 1.0;
        }
        mean[i] = sum / count;
    }
    return mean;
}

/// Covariance over the blocks without any NaN: another set of blocks than the mean's. One block
/// gives zero. Empty when there is none.
std::optional<Matrix> covariance_of_whole_blocks(const std::vector<Features>& blocks) {
    Features mean{};
    double count = 0.0;
    for (const Features& block : blocks) {
        if (!is_whole(block)) continue;
        for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += block[i];
        count += 1.0;
    }
    if (count == 0.0) return std::nullopt;
    for (double& value : mean) value /= count;

    Matrix covariance{};
    for (const Features& block : blocks) {
        if (!is_whole(block)) continue;
        for (std::size_t i = 0; i < mean.size(); ++i) {
            for (std::size_t j = 0; j <= i; ++j) {
                covariance[i][j] += (block[i] - mean[i]) * (block[j] - mean[j]);
            }
        }
    }
    for (std::size_t i = 0; i < mean.size(); ++i) {
        for (std::size_t j = 0; j <= i; ++j) {
            covariance[i][j] /= std::max(count - 1.0, 1.0);
            covariance[j][i] = covariance[i][j];
        }
    }
    return covariance;
}

/// sqrt(d^T A^-1 d) by Cholesky. The reference takes a pseudo-inverse, which is the inverse here:
/// the pristine covariance is positive definite (condition 1.6e5) and half of it is in A.
double mahalanobis(const Features& d, Matrix a) {
    double square = 0.0;
    Features z{};
    for (std::size_t i = 0; i < d.size(); ++i) {
        double rest = d[i];
        for (std::size_t j = 0; j <= i; ++j) {
            double sum = a[i][j];
            for (std::size_t k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
            if (j < i) {
                a[i][j] = sum / a[j][j];
                rest -= a[i][j] * z[j];
            } else {
                a[i][i] = std::sqrt(sum);
                z[i] = rest / a[i][i];
            }
        }
        square += z[i] * z[i];
    }
    return std::sqrt(square);
}

class Niqe : public Metric {
  public:
    Niqe(const MetricInfo& info, Luma luma, Profile profile)
        : info_(info), luma_(luma), profile_(profile) {}

    double score(const Image& sr, const Image& hr) const override {
        check_input(info_, sr, hr);

        // Measure each block at two scales
        const Plane<float> luma = covered_luma(sr, luma_, profile_);
        std::vector<Features> blocks(static_cast<std::size_t>(luma.width() / niqe_block) *
                                     static_cast<std::size_t>(luma.height() / niqe_block));
        measure_scale_(blocks, luma, niqe_block, 0);
        measure_scale_(blocks, half_size(luma, profile_), niqe_block / 2, niqe_features / 2);

        // Compare with pristine pictures
        const Features mean = mean_without_nan(blocks);
        const std::optional<Matrix> covariance = covariance_of_whole_blocks(blocks);
        if (!covariance || !is_whole(mean)) return std::numeric_limits<double>::quiet_NaN();
        Features difference{};
        Matrix pooled{};
        for (std::size_t i = 0; i < mean.size(); ++i) {
            difference[i] = niqe_mean[i] - mean[i];
            for (std::size_t j = 0; j < mean.size(); ++j) {
                pooled[i][j] = (niqe_covariance[i][j] + (*covariance)[i][j]) / 2.0;
            }
        }
        return mahalanobis(difference, pooled);
    }

  private:
    const MetricInfo& info_;
    Luma luma_;
    Profile profile_;
};

}  // namespace

extern const MetricInfo niqe, niqe_y601;

const MetricInfo niqe{
    .name = "niqe",
    .title = "NIQE",
    .unit = "",
    .source = "Mittal, Soundararajan, Bovik 2013, on full-range luma rounded to 8 bit",
    .reference = Reference::none,
    .better = Better::lower,
    .decimals = 2,
    .min_side = niqe_block,
    .settings = {{"setting", "niqe_yiq"},
                 {"luma", "YIQ full range, rounded to 8 bit"},
                 {"parameters",
                  "niqe_pris_params.npz, SHA-256 2a7c182a68c9e7f1b2e2e5ec723279d6"
                  "f65d912b6fcaf37eb2bf03d7367c4296"},
                 {"crop_border", "0"}},
    .make = [](const MetricOptions& o) -> MetricPtr {
        return std::make_unique<Niqe>(niqe, Luma::yiq, o.profile);
    }};

const MetricInfo niqe_y601{
    .name = "niqe-y601",
    .title = "NIQE (Y601)",
    .unit = "",
    .source = "Mittal, Soundararajan, Bovik 2013, on BT.601 studio luma rounded to 8 bit",
    .reference = Reference::none,
    .better = Better::lower,
    .decimals = 2,
    .min_side = niqe_block,
    .settings = {{"setting", "niqe_ycbcr"},
                 {"luma", "BT.601 studio swing, rounded to 8 bit"},
                 {"parameters",
                  "niqe_pris_params.npz, SHA-256 2a7c182a68c9e7f1b2e2e5ec723279d6"
                  "f65d912b6fcaf37eb2bf03d7367c4296"},
                 {"crop_border", "0"}},
    .make = [](const MetricOptions& o) -> MetricPtr {
        return std::make_unique<Niqe>(niqe_y601, Luma::y601, o.profile);
    }};

}  // namespace ultrasr
