// Multi-scale structural similarity as pyiqa 0.1.16 computes it with its default settings.
//
// Beyond the paper, found by running it (odd, non-square, smallest and grey pictures, negative
// contrast, luminance errors tied to structure errors; agreement 3e-15 against a float64 model):
//  - luma is YIQ, rounded to 8 bit; nothing is cropped;
//  - the factor of scales 1 to 4 is mean(cs)^w, that of scale 5 is mean(l cs)^w, not
//    mean(l)^w mean(cs)^w; cs is clamped at 0 pixel by pixel, so a mean is never negative;
//  - between scales 2 x 2 blocks are averaged; an odd side first gets one line of zeros in front
//    (above, on the left), which counts in the mean; side n becomes ceil(n / 2);
//  - the five weights are float32 numbers, the arithmetic is double;
//  - so the smallest side is 161: it becomes 81, 41, 21, 11, where one window fits.
// Source: Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality
// assessment", Asilomar 2003, eq. 7 and sec. 3.2 (the weights).
#include <array>
#include <cmath>

#include "metrics/input_check.h"
#include "metrics/luma.h"
#include "metrics/metric.h"
#include "metrics/ssim.h"

namespace ultrasr {
namespace {

constexpr std::array<float, 5> weights{0.0448F, 0.2856F, 0.3001F, 0.2363F, 0.1333F};

/// Half the size. Sums of four are exact in float32: five scales need 8 + 8 bits.
Plane<float> averaged_2x2(const Plane<float>& plane) {
    const int odd_x = plane.width() % 2;
    const int odd_y = plane.height() % 2;
    Plane<float> result((plane.width() + odd_x) / 2, (plane.height() + odd_y) / 2);
    for (int y = 0; y < result.height(); ++y) {
        const int upper = 2 * y - odd_y;
        for (int x = 0; x < result.width(); ++x) {
            const int left = 2 * x - odd_x;
            float sum = plane.row(upper + 1)[left + 1];
            if (left >= 0) sum += plane.row(upper + 1)[left];
            if (upper >= 0) sum += plane.row(upper)[left + 1];
            if (upper >= 0 && left >= 0) sum += plane.row(upper)[left];
            result.row_(y)[x] = 0.25F * sum;
        }
    }
    return result;
}

class MsSsim : public Metric {
  public:
    MsSsim(const MetricInfo& info, Profile profile) : info_(info), profile_(profile) {}

    double score(const Image& sr, const Image& hr) const override {
        check_input(info_, sr, hr);
        Plane<float> a = rounded_luma(sr, Luma::yiq, profile_);
        Plane<float> b = rounded_luma(hr, Luma::yiq, profile_);
        double product = 1.0;
        for (std::size_t scale = 0; scale < weights.size(); ++scale) {
            const bool last = scale + 1 == weights.size();
            const SsimMeans means =
                ssim_means(a, b, scale == 0 ? Samples::whole : Samples::fractional);
            product *= std::pow(last ? means.ssim : means.contrast, double{weights[scale]});
            if (!last) {
                a = averaged_2x2(a);
                b = averaged_2x2(b);
            }
        }
        return product;
    }

  private:
    const MetricInfo& info_;
    Profile profile_;
};

}  // namespace

extern const MetricInfo ms_ssim;

const MetricInfo ms_ssim{
    .name = "ms-ssim",
    .title = "MS-SSIM",
    .unit = "",
    .source = "Wang, Simoncelli, Bovik 2003, five scales, on full-range luma rounded to 8 bit",
    .reference = Reference::full,
    .better = Better::higher,
    .decimals = 4,
    .min_side = 161,
    .settings = {{"setting", "ms_ssim_y_yiq"},
                 {"luma", "YIQ full range, rounded to 8 bit"},
                 {"contrast_structure", "clamped at 0"},
                 {"crop_border", "0"}},
    .make = [](const MetricOptions& o) -> MetricPtr {
        return std::make_unique<MsSsim>(ms_ssim, o.profile);
    }};

}  // namespace ultrasr
