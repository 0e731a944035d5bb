#include "data/tensor/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <cmath>

#include "data/tensor/layers.h"

namespace ultrasr {
namespace {

/// Queries so many that their scores take about that many bytes.
std::int64_t queries_for(std::int64_t bytes, const at::Tensor& q, const at::Tensor& k) {
    const auto a_row = k.size(1) * static_cast<std::int64_t>(q.element_size());
    return std::clamp<std::int64_t>(bytes / a_row, 64, std::max<std::int64_t>(64, q.size(1)));
}

/// For GPUs whose fused operator takes no head that wide: blocks of queries.
at::Tensor attention_in_blocks(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
    const at::Tensor keys = k.permute({0, 2, 3, 1}), values = v.transpose(1, 2);
    at::Tensor result = at::empty(q.sizes(), q.options());
    const std::int64_t block = queries_for(std::int64_t{1} << 30, q, k);
    for (std::int64_t first = 0; first < q.size(1); first += block) {
        const std::int64_t count = std::min(block, q.size(1) - first);
        const at::Tensor scores =
            at::matmul(q.narrow(1, first, count).transpose(1, 2) * scale, keys);
        result.narrow(1, first, count)
            .copy_(at::matmul(at::softmax(scores, -1), values).transpose(1, 2));
    }
    return result.flatten(2);
}

}  // namespace

at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        .transpose(1, 2)
        .flatten(2);
}

at::Tensor attention_by_head(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const Placement& placement) {
    Placement once = placement;
    once.inference_only = true;
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
    at::Tensor result = at::empty(q.sizes(), q.options());
    const std::int64_t block = queries_for(4 << 20, q, k);
    for (std::int64_t n = 0; n < q.size(0); ++n) {
        for (std::int64_t head = 0; head < q.size(2); ++head) {
            // The second factor of each product takes a weight's place
            const Linear keys(k[n].select(1, head) * scale, {}, once);
            const Linear values(v[n].select(1, head).t(), {}, once);
            const at::Tensor queries = q[n].select(1, head).contiguous();
            const at::Tensor out = result[n].select(1, head);
            for (std::int64_t first = 0; first < queries.size(0); first += block) {
                const std::int64_t count = std::min(block, queries.size(0) - first);
                const at::Tensor scores = keys(queries.narrow(0, first, count));
                out.narrow(0, first, count).copy_(values(at::softmax(scores, -1)));
            }
        }
    }
    return result.flatten(2);
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const Placement& placement) {
    const bool no_gradient = needs_no_gradient(q) && needs_no_gradient(k) && needs_no_gradient(v);
    if (no_gradient && q.is_cpu() && !placement.emulated && q.size(1) >= 512) {
        return attention_by_head(q, k, v, placement);
    }
    constexpr std::int64_t widest_fused = 256;  // of the GPU's flash kernel
    if (no_gradient && q.is_cuda() && q.size(3) > widest_fused) return attention_in_blocks(q, k, v);
    return fused_attention(q, k, v);
}

}  // namespace ultrasr
