#include "metrics/nets/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>

#include <cmath>

#include "data/tensor/layers.h"

namespace ultrasr {

at::Tensor fused_self_attention(const at::Tensor& qkv) {
    const at::Tensor parts = qkv.permute({2, 0, 3, 1, 4});
    return at::scaled_dot_product_attention(parts[0], parts[1], parts[2])
        .transpose(1, 2)
        .reshape({qkv.size(0), qkv.size(1), -1});
}

at::Tensor self_attention_by_head(const at::Tensor& qkv, const Placement& placement) {
    const std::int64_t n = qkv.size(0), heads = qkv.size(3), width = qkv.size(4);
    const double scale = 1.0 / std::sqrt(static_cast<double>(width));
    at::Tensor result = at::empty({n, qkv.size(1), heads * width}, qkv.options());
    for (std::int64_t i = 0; i < n * heads; ++i) {
        const std::int64_t head = i % heads;
        const at::Tensor parts = qkv[i / heads].select(2, head);  // T x 3 x d

        // The second factor of each product takes a weight's place
        const Linear keys(parts.select(1, 1), {}, placement);
        const Linear values(parts.select(1, 2).t(), {}, placement);
        const at::Tensor queries = (parts.select(1, 0) * scale).contiguous();
        result[i / heads]
            .slice(1, head * width, (head + 1) * width)
            .copy_(values(at::softmax(keys(queries), -1)));
    }
    return result;
}

at::Tensor self_attention(const at::Tensor& qkv, const Placement& placement) {
    const bool by_head = qkv.is_cpu() && qkv.scalar_type() == at::kFloat;
    return by_head ? self_attention_by_head(qkv, placement) : fused_self_attention(qkv);
}

}  // namespace ultrasr
