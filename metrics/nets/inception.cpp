#include "metrics/nets/inception.h"

#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/mean.h>
#include <fmt/format.h>

namespace ultrasr {
namespace {

constexpr double norm_eps = 1e-3;

at::Tensor run_chain(const std::vector<Conv>& chain, at::Tensor x) {
    for (const Conv& conv : chain) x = conv.relu(x);
    return x;
}

/// 3 x 3, stride 1; places outside do not count.
at::Tensor average(const at::Tensor& x) {
    return at::avg_pool2d(x, {3, 3}, {1, 1}, {1, 1}, false, false);
}

at::Tensor halve(const at::Tensor& x) { return at::max_pool2d(x, {3, 3}, {2, 2}); }

constexpr ConvShape pad1{.padding = {1, 1}};
constexpr ConvShape pad2{.padding = {2, 2}};
constexpr ConvShape row3{.padding = {0, 1}}, column3{.padding = {1, 0}};
constexpr ConvShape row7{.padding = {0, 3}}, column7{.padding = {3, 0}};
constexpr ConvShape stride2{.stride = {2, 2}};

}  // namespace

Conv FidInception::conv(StateDict& weights, const std::string& key, at::IntArrayRef shape,
                        const ConvShape& conv_shape) const {
    return take_conv_norm(weights, key + ".conv", key + ".bn", shape, norm_eps, conv_shape,
                          placement_);
}

FidInception::Mixed FidInception::mixed_5(StateDict& weights, const std::string& key,
                                          std::int64_t in, std::int64_t pooled) const {
    const auto c = [&](const char* name, at::IntArrayRef shape, const ConvShape& s = {}) {
        return conv(weights, fmt::format("{}.{}", key, name), shape, s);
    };
    return {
        .direct = c("branch1x1", {64, in, 1, 1}),
        .pooled = c("branch_pool", {pooled, in, 1, 1}),
        .chains = {{c("branch5x5_1", {48, in, 1, 1}), c("branch5x5_2", {64, 48, 5, 5}, pad2)},
                   {c("branch3x3dbl_1", {64, in, 1, 1}), c("branch3x3dbl_2", {96, 64, 3, 3}, pad1),
                    c("branch3x3dbl_3", {96, 96, 3, 3}, pad1)}}};
}

FidInception::Mixed FidInception::mixed_6(StateDict& weights, const std::string& key,
                                          std::int64_t m) const {
    const auto c = [&](const char* name, at::IntArrayRef shape, const ConvShape& s = {}) {
        return conv(weights, fmt::format("{}.{}", key, name), shape, s);
    };
    return {
        .direct = c("branch1x1", {192, 768, 1, 1}),
        .pooled = c("branch_pool", {192, 768, 1, 1}),
        .chains = {
            {c("branch7x7_1", {m, 768, 1, 1}), c("branch7x7_2", {m, m, 1, 7}, row7),
             c("branch7x7_3", {192, m, 7, 1}, column7)},
            {c("branch7x7dbl_1", {m, 768, 1, 1}), c("branch7x7dbl_2", {m, m, 7, 1}, column7),
             c("branch7x7dbl_3", {m, m, 1, 7}, row7), c("branch7x7dbl_4", {m, m, 7, 1}, column7),
             c("branch7x7dbl_5", {192, m, 1, 7}, row7)}}};
}

FidInception::Forked FidInception::mixed_7(StateDict& weights, const std::string& key,
                                           std::int64_t in) const {
    const auto c = [&](const char* name, at::IntArrayRef shape, const ConvShape& s = {}) {
        return conv(weights, fmt::format("{}.{}", key, name), shape, s);
    };
    return {.direct = c("branch1x1", {320, in, 1, 1}),
            .pooled = c("branch_pool", {192, in, 1, 1}),
            .single = c("branch3x3_1", {384, in, 1, 1}),
            .single_a = c("branch3x3_2a", {384, 384, 1, 3}, row3),
            .single_b = c("branch3x3_2b", {384, 384, 3, 1}, column3),
            .twice_1 = c("branch3x3dbl_1", {448, in, 1, 1}),
            .twice_2 = c("branch3x3dbl_2", {384, 448, 3, 3}, pad1),
            .twice_a = c("branch3x3dbl_3a", {384, 384, 1, 3}, row3),
            .twice_b = c("branch3x3dbl_3b", {384, 384, 3, 1}, column3)};
}

FidInception::FidInception(StateDict& weights, const Placement& placement) : placement_(placement) {
    const auto c = [&](const char* name, at::IntArrayRef shape, const ConvShape& s = {}) {
        return conv(weights, name, shape, s);
    };
    stem_ = {c("Conv2d_1a_3x3", {32, 3, 3, 3}, stride2), c("Conv2d_2a_3x3", {32, 32, 3, 3}),
             c("Conv2d_2b_3x3", {64, 32, 3, 3}, pad1), c("Conv2d_3b_1x1", {80, 64, 1, 1}),
             c("Conv2d_4a_3x3", {192, 80, 3, 3})};
    mixed_5_ = {mixed_5(weights, "Mixed_5b", 192, 32), mixed_5(weights, "Mixed_5c", 256, 64),
                mixed_5(weights, "Mixed_5d", 288, 64)};
    mixed_6a_.chains = {{c("Mixed_6a.branch3x3", {384, 288, 3, 3}, stride2)},
                        {c("Mixed_6a.branch3x3dbl_1", {64, 288, 1, 1}),
                         c("Mixed_6a.branch3x3dbl_2", {96, 64, 3, 3}, pad1),
                         c("Mixed_6a.branch3x3dbl_3", {96, 96, 3, 3}, stride2)}};
    mixed_6_ = {mixed_6(weights, "Mixed_6b", 128), mixed_6(weights, "Mixed_6c", 160),
                mixed_6(weights, "Mixed_6d", 160), mixed_6(weights, "Mixed_6e", 192)};
    mixed_7a_.chains = {{c("Mixed_7a.branch3x3_1", {192, 768, 1, 1}),
                         c("Mixed_7a.branch3x3_2", {320, 192, 3, 3}, stride2)},
                        {c("Mixed_7a.branch7x7x3_1", {192, 768, 1, 1}),
                         c("Mixed_7a.branch7x7x3_2", {192, 192, 1, 7}, row7),
                         c("Mixed_7a.branch7x7x3_3", {192, 192, 7, 1}, column7),
                         c("Mixed_7a.branch7x7x3_4", {192, 192, 3, 3}, stride2)}};
    mixed_7b_ = mixed_7(weights, "Mixed_7b", 1280);
    mixed_7c_ = mixed_7(weights, "Mixed_7c", 2048);
}

at::Tensor FidInception::run(const Mixed& block, const at::Tensor& x) {
    std::vector<at::Tensor> parts{block.direct.relu(x)};
    for (const Chain& chain : block.chains) parts.push_back(run_chain(chain, x));
    // The 1 x 1 convolution and the average commute (its weights sum to 1): fewer channels to pool
    parts.push_back(average(block.pooled(x)).relu_());
    return at::cat(parts, 1);
}

at::Tensor FidInception::run(const Reduction& block, const at::Tensor& x) {
    std::vector<at::Tensor> parts;
    for (const Chain& chain : block.chains) parts.push_back(run_chain(chain, x));
    parts.push_back(halve(x));
    return at::cat(parts, 1);
}

at::Tensor FidInception::run(const Forked& block, const at::Tensor& x, bool max_pool) {
    const at::Tensor single = block.single.relu(x);
    const at::Tensor twice = block.twice_2.relu(block.twice_1.relu(x));
    const at::Tensor pooled = max_pool
                                  ? block.pooled.relu(at::max_pool2d(x, {3, 3}, {1, 1}, {1, 1}))
                                  : average(block.pooled(x)).relu_();
    return at::cat({block.direct.relu(x), block.single_a.relu(single), block.single_b.relu(single),
                    block.twice_a.relu(twice), block.twice_b.relu(twice), pooled},
                   1);
}

at::Tensor FidInception::forward(const at::Tensor& input) const {
    at::Tensor x = to_activation(input, placement_);
    for (std::size_t i = 0; i < stem_.size(); ++i) {
        if (i == 3) x = halve(x);
        x = stem_[i].relu(x);
    }
    x = halve(x);
    for (const Mixed& block : mixed_5_) x = run(block, x);
    x = run(mixed_6a_, x);
    for (const Mixed& block : mixed_6_) x = run(block, x);
    x = run(mixed_7a_, x);
    x = run(mixed_7b_, x, false);
    x = run(mixed_7c_, x, true);
    return at::mean(x.to(at::kFloat), {2, 3});
}

}  // namespace ultrasr
