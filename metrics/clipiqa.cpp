#include "metrics/clipiqa.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/sigmoid.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <optional>
#include <vector>

#include "data/image.h"
#include "metrics/input_check.h"
#include "metrics/net_metric.h"
#include "metrics/nets/clip_text.h"

namespace ultrasr {
namespace {

constexpr const char* clip_file = "RN50.pt";
constexpr const char* prompts_file = "CLIP-IQA+_learned_prompts-603f3273.pth";

using Ids = std::vector<std::int64_t>;

// Antonyms, the good one first, in CLIP's tokens: pyiqa's choice of five (metrics.md 8.5)
const std::vector<Ids> five_pairs{
    {886, 2867},              // Good image
    {2103, 2867},             // bad image
    {8157, 2867},             // Sharp image
    {21977, 2867},            // blurry image
    {8157, 20938},            // sharp edges
    {21977, 20938},           // blurry edges
    {1400, 9977, 2867},       // High resolution image
    {1042, 9977, 2867},       // low resolution image
    {9307, 268, 1139, 2867},  // Noise-free image
    {33495, 2867},            // noisy image
};

// CLIPIQA+: between learned context vectors; the double full stop is one token
const std::vector<Ids> learned_pair{
    {886, 1125, 852},   // Good photo..
    {2103, 1125, 852},  // Bad photo..
};

std::vector<at::Tensor> fixed_prompts(const ClipText& text) {
    std::vector<at::Tensor> prompts;
    for (const Ids& words : five_pairs) {
        Ids ids{ClipText::start_token};
        ids.insert(ids.end(), words.begin(), words.end());
        ids.push_back(ClipText::end_token);
        prompts.push_back(text.embed(ids));
    }
    return prompts;
}

/// learned: 2 x 16 x 512
std::vector<at::Tensor> learned_prompts(const ClipText& text, const at::Tensor& learned) {
    constexpr std::int64_t half = ClipIqaNet::learned_shape[1] / 2;
    const at::Tensor start = text.embed(Ids{ClipText::start_token});
    const at::Tensor end = text.embed(Ids{ClipText::end_token});
    std::vector<at::Tensor> prompts;
    for (std::size_t i = 0; i < learned_pair.size(); ++i) {
        const at::Tensor context = learned[static_cast<std::int64_t>(i)].to(start.device());
        prompts.push_back(at::cat({start, context.narrow(0, 0, half), text.embed(learned_pair[i]),
                                   context.narrow(0, half, half), end}));
    }
    return prompts;
}

}  // namespace

ClipIqaNet::ClipIqaNet(StateDict& clip, const Placement& placement, const at::Tensor& learned)
    : image_(clip, placement) {
    const ClipText text(clip, placement);
    const double scale = std::exp(clip.take("logit_scale", {}).item<double>());
    const auto prompts = learned.defined() ? learned_prompts(text, learned) : fixed_prompts(text);
    const at::Tensor rows = text.forward(prompts).to(at::kCPU, at::kDouble);
    const at::Tensor unit = (rows / rows.norm(2, {1}, true)).view({-1, 2, ClipText::features});
    contrasts_ = (unit.select(1, 0) - unit.select(1, 1)) * scale;
}

double ClipIqaNet::score(const at::Tensor& rgb) const {
    const at::Tensor features = image_.forward(rgb).to(at::kCPU, at::kDouble);
    // A softmax over two is a sigmoid of their difference
    return at::sigmoid(at::matmul(contrasts_, features / features.norm())).mean().item<double>();
}

namespace {

class ClipIqa final : public NetMetric {
  public:
    ClipIqa(const MetricInfo& info, const MetricOptions& options, bool learned)
        : NetMetric(info, options) {
        const c10::InferenceMode guard;
        at::Tensor context;
        if (learned) {
            StateDict prompts = load(prompts_file);
            // The file is one bare tensor, which has no name of its own: a context for each of
            // the two prompts, or one for both (pyiqa takes either)
            const std::string name = prompts.contains("root") ? "root" : "ctx";
            if (prompts.shape_of(name).size() == 2) {
                context = prompts.take(name, at::IntArrayRef(ClipIqaNet::learned_shape).slice(1))
                              .unsqueeze(0)
                              .expand(ClipIqaNet::learned_shape);
            } else {
                context = prompts.take(name, ClipIqaNet::learned_shape);
            }
            prompts.finish();
        }
        StateDict weights = load(clip_file);
        net_.emplace(weights, placement_, context);
        for (const char* unused : {"visual.attnpool.positional_embedding", "input_resolution",
                                   "context_length", "vocab_size"}) {
            weights.ignore(unused);
        }
        weights.finish();
    }

    double score(const Image& sr, const Image& hr) const override {
        check_input(info_, sr, hr);
        const c10::InferenceMode guard;
        return net_->score(picture_on(sr, placement_));
    }

  private:
    std::optional<ClipIqaNet> net_;
};

}  // namespace

extern const MetricInfo clipiqa, clipiqa_plus;

const MetricInfo clipiqa{
    .name = "clipiqa",
    .title = "CLIPIQA",
    .unit = "",
    .source = "CLIP RN50's preference for five good over five bad prompts (Wang et al. 2023)",
    .reference = Reference::none,
    .better = Better::higher,
    .decimals = 4,
    .min_side = 31,
    .settings = {{"setting", "clipiqa_rn50"}, {"prompts", "pyiqa's five pairs of antonyms"}},
    .weight_files = {clip_file},
    .make = [](const MetricOptions& o) -> MetricPtr {
        return std::make_unique<ClipIqa>(clipiqa, o, false);
    },
    .make_set = {}};

const MetricInfo clipiqa_plus{
    .name = "clipiqa+",
    .title = "CLIPIQA+",
    .unit = "",
    .source = "CLIP RN50's preference for a good over a bad learned prompt (Wang et al. 2023)",
    .reference = Reference::none,
    .better = Better::higher,
    .decimals = 4,
    .min_side = 31,
    .settings = {{"setting", "clipiqa+_rn50"}, {"prompts", "one learned pair"}},
    .weight_files = {clip_file, prompts_file},
    .make = [](const MetricOptions& o) -> MetricPtr {
        return std::make_unique<ClipIqa>(clipiqa_plus, o, true);
    },
    .make_set = {}};

}  // namespace ultrasr
