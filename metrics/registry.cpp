#include <array>

#include "data/base/error.h"
#include "metrics/metric.h"

namespace ultrasr {

extern const MetricInfo psnr_y601, psnr_yiq, psnr_rgb, ssim_y601, ssim_yiq, ms_ssim, lpips_alex,
    lpips_vgg, dists_metric, fid, niqe, niqe_y601, musiq, musiq_spaq, musiq_paq2piq, musiq_ava,
    clipiqa, clipiqa_plus, maniqa_pipal;
static const std::array metrics{
    &psnr_y601,     &psnr_yiq,     &psnr_rgb, &ssim_y601,    &ssim_yiq,    &ms_ssim, &lpips_alex,
    &lpips_vgg,     &dists_metric, &fid,      &niqe,         &niqe_y601,   &musiq,   &musiq_spaq,
    &musiq_paq2piq, &musiq_ava,    &clipiqa,  &clipiqa_plus, &maniqa_pipal};

std::span<const MetricInfo* const> all_metrics() { return metrics; }

const MetricInfo& find_metric(std::string_view name) {
    std::string known;
    for (const MetricInfo* metric : metrics) {
        if (metric->name == name) return *metric;
        known += (known.empty() ? "" : ", ") + metric->name;
    }
    fail(Fault::usage, "unknown metric '{}'; known are {}", name, known);
}

}  // namespace ultrasr
