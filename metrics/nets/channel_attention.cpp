#include "metrics/nets/channel_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <cmath>

namespace ultrasr {
namespace {

// Scores of so many channels at a time stay in a CPU's cache
constexpr std::int64_t rows_at_once = 256;

}  // namespace

ChannelAttention::ChannelAttention(StateDict& weights, const std::string& key, std::int64_t length,
                                   const Placement& placement)
    : placement_(placement) {
    const auto take = [&](const char* part, at::IntArrayRef shape) {
        return weights.take(key + part, shape);
    };
    // Fold queries and keys in double
    const at::Tensor wq = take("c_q.weight", {length, length}).to(at::kDouble);
    const at::Tensor bq = take("c_q.bias", {length}).to(at::kDouble);
    const at::Tensor wk = take("c_k.weight", {length, length}).to(at::kDouble);
    take("c_k.bias", {length});  // the same for all keys of a query
    const double scale = 1.0 / std::sqrt(static_cast<double>(length));
    const at::Tensor folded = at::matmul(wk.t(), wq) * scale;
    const at::Tensor bias = at::matmul(wk.t(), bq) * scale;
    query_ = Linear(folded.to(at::kFloat), bias.to(at::kFloat), placement);

    value_weight_ = take("c_v.weight", {length, length}).to(placement.device, placement.dtype);
    value_bias_ = take("c_v.bias", {length});
}

at::Tensor ChannelAttention::attend(const at::Tensor& x) const {
    // The second factor of each product takes a weight's place, so that it is laid out once
    const Linear keys(x, {}, placement_);
    const Linear values(keys(value_weight_), value_bias_, placement_);
    const at::Tensor queries = query_(x);
    const std::int64_t channels = x.size(0);
    if (!x.is_cpu()) return values(at::softmax(keys(queries), -1));

    at::Tensor result = at::empty_like(x);
    for (std::int64_t begin = 0; begin < channels; begin += rows_at_once) {
        const std::int64_t end = std::min(begin + rows_at_once, channels);
        const at::Tensor scores = keys(queries.slice(0, begin, end));
        result.slice(0, begin, end).copy_(values(at::softmax(scores, -1)));
    }
    return result;
}

at::Tensor ChannelAttention::operator()(const at::Tensor& x) const {
    at::Tensor result = at::empty_like(x);
    for (std::int64_t i = 0; i < x.size(0); ++i) {
        at::Tensor slot = result[i].view({x.size(2), x.size(1)});
        slot.copy_(attend(x[i]).t());
    }
    return result.add_(x);
}

}  // namespace ultrasr
