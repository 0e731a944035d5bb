// Peak signal-to-noise ratio: 10 log10(1 / (MSE + 1e-8)), on luma or on RGB.
#include <cmath>
#include <vector>

#include "data/image.h"
#include "metrics/input_check.h"
#include "metrics/luma.h"
#include "metrics/metric.h"
#include "metrics/sum.h"

namespace ultrasr {
namespace {

// pyiqa adds it to the mean squared error: equal pictures score 80 dB, never infinity.
constexpr double epsilon = 1e-8;

/// What is compared: a luma, or all three channels.
enum class Signal { y601, yiq, rgb };

class Psnr : public Metric {
  public:
    Psnr(const MetricInfo& info, Signal signal, Profile profile)
        : info_(info), signal_(signal), profile_(profile) {}

    double score(const Image& sr, const Image& hr) const override {
        check_input(info_, sr, hr);
        const int per_row = sr.width() * (signal_ == Signal::rgb ? 3 : 1);
        std::vector<float> a(static_cast<std::size_t>(per_row));
        std::vector<float> b(a.size());

        // Sum the squared differences row by row
        LaneSum squares;
        for (int y = 0; y < sr.height(); ++y) {
            take_row(sr, y, a.data());
            take_row(hr, y, b.data());
            squares.add(per_row, [&](int i) {
                const double d = a[static_cast<std::size_t>(i)] - b[static_cast<std::size_t>(i)];
                return d * d;
            });
        }
        const double mse = squares.total() / (double{1} * per_row * sr.height());
        return 10.0 * std::log10(1.0 / (mse + epsilon));
    }

  private:
    void take_row(const Image& image, int y, float* out) const {
        if (signal_ == Signal::rgb) {
            channel_row(image.row(y), 3 * image.width(), profile_, out);
        } else {
            luma_row(image.row(y), image.width(), signal_ == Signal::y601 ? Luma::y601 : Luma::yiq,
                     profile_, out);
        }
    }

    const MetricInfo& info_;
    Signal signal_;
    Profile profile_;
};

}  // namespace

extern const MetricInfo psnr_y601, psnr_yiq, psnr_rgb;

const MetricInfo psnr_y601{
    .name = "psnr-y601",
    .title = "PSNR",
    .unit = "dB",
    .source = "10 log10(1 / (MSE + 1e-8)) on BT.601 studio luma, not rounded; 80 dB when equal",
    .reference = Reference::full,
    .better = Better::higher,
    .decimals = 2,
    .min_side = 1,
    .settings = {{"setting", "psnr_y_ycbcr"},
                 {"luma", "BT.601 studio swing, not rounded"},
                 {"crop_border", "0"}},
    .make = [](const MetricOptions& o) -> MetricPtr {
        return std::make_unique<Psnr>(psnr_y601, Signal::y601, o.profile);
    }};

const MetricInfo psnr_yiq{
    .name = "psnr-yiq",
    .title = "PSNR (YIQ)",
    .unit = "dB",
    .source = "10 log10(1 / (MSE + 1e-8)) on full-range luma, not rounded; 80 dB when equal",
    .reference = Reference::full,
    .better = Better::higher,
    .decimals = 2,
    .min_side = 1,
    .settings = {{"setting", "psnr_y_yiq"},
                 {"luma", "YIQ full range, not rounded"},
                 {"crop_border", "0"}},
    .make = [](const MetricOptions& o) -> MetricPtr {
        return std::make_unique<Psnr>(psnr_yiq, Signal::yiq, o.profile);
    }};

const MetricInfo psnr_rgb{.name = "psnr-rgb",
                          .title = "PSNR (RGB)",
                          .unit = "dB",
                          .source = "10 log10(1 / (MSE + 1e-8)) over R, G and B; 80 dB when equal",
                          .reference = Reference::full,
                          .better = Better::higher,
                          .decimals = 2,
                          .min_side = 1,
                          .settings = {{"setting", "psnr_rgb"}, {"crop_border", "0"}},
                          .make = [](const MetricOptions& o) -> MetricPtr {
                              return std::make_unique<Psnr>(psnr_rgb, Signal::rgb, o.profile);
                          }};

}  // namespace ultrasr
