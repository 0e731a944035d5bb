#include "data/tensor/layers.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/rsqrt.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

namespace ultrasr {
namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;
using Text = std::string_view;
using MaybeText = std::optional<std::string_view>;
using MaybeTensor = std::optional<at::Tensor>;

// ---- oneDNN's fused operators; LibTorch registers them without a header ----

template <class Signature>
std::optional<c10::TypedOperatorHandle<Signature>> find_operator(const char* name,
                                                                 const char* overload) {
    const auto op = c10::Dispatcher::singleton().findSchema({name, overload});
    const bool there = op && (op->hasKernelForDispatchKey(c10::DispatchKey::MkldnnCPU) ||
                              op->hasKernelForDispatchKey(c10::DispatchKey::CPU));
    if (!there) return std::nullopt;
    return op->typed<Signature>();
}

const auto& conv_operator() {
    static const auto op =
        find_operator<at::Tensor(const at::Tensor&, const at::Tensor&, const MaybeTensor&,
                                 at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, std::int64_t,
                                 Text, Scalars, MaybeText)>("mkldnn::_convolution_pointwise", "");
    return op;
}

const auto& conv_add_operator() {
    static const auto op = find_operator<at::Tensor&(
        at::Tensor&, const at::Tensor&, const at::Tensor&, const MaybeTensor&, at::IntArrayRef,
        at::IntArrayRef, at::IntArrayRef, std::int64_t, Text, std::optional<at::Scalar>, MaybeText,
        Scalars, MaybeText)>("mkldnn::_convolution_pointwise_", "binary");
    return op;
}

const auto& pack_conv_operator() {
    static const auto op =
        find_operator<at::Tensor(const at::Tensor&, at::IntArrayRef, at::IntArrayRef,
                                 at::IntArrayRef, std::int64_t, at::OptionalIntArrayRef)>(
            "mkldnn::_reorder_convolution_weight", "");
    return op;
}

const auto& linear_operator() {
    static const auto op =
        find_operator<at::Tensor(const at::Tensor&, const at::Tensor&, const MaybeTensor&, Text,
                                 Scalars, MaybeText)>("mkldnn::_linear_pointwise", "");
    return op;
}

const auto& linear_binary_operator() {
    static const auto op =
        find_operator<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                 const MaybeTensor&, Text)>("mkldnn::_linear_pointwise", "binary");
    return op;
}

const auto& pack_linear_operator() {
    static const auto op =
        find_operator<at::Tensor(const at::Tensor&, std::optional<std::int64_t>)>(
            "mkldnn::_reorder_linear_weight", "");
    return op;
}

bool fuses(const Placement& placement) {
    // float16 on a CPU is for tests of what GPUs compute
    return placement.device.is_cpu() && !placement.emulated && placement.dtype != c10::kHalf &&
           conv_operator() && conv_add_operator() && pack_conv_operator() && linear_operator() &&
           linear_binary_operator() && pack_linear_operator();
}

MaybeTensor maybe(const at::Tensor& tensor) {
    return tensor.defined() ? MaybeTensor(tensor) : std::nullopt;
}

/// A tensor that is trained stays what it is, so that the layer sees each change of it.
at::Tensor placed(const at::Tensor& tensor, const Placement& placement) {
    if (!tensor.defined() || tensor.requires_grad()) return tensor;
    const at::Tensor rounded = tensor.to(placement.device, placement.dtype);
    return placement.emulated ? rounded.to(at::kFloat) : rounded;
}

/// Parameters in the type that the layer computes in: those that are trained stay float32.
at::Tensor as_computed(const at::Tensor& parameter, const at::Tensor& x, bool emulated) {
    if (!parameter.defined() || !parameter.requires_grad()) return parameter;
    return emulated ? parameter.to(at::kBFloat16).to(at::kFloat) : parameter.to(x.scalar_type());
}

constexpr std::array<std::int64_t, 2> no_dilation{1, 1};

}  // namespace

at::Tensor to_activation(const at::Tensor& nchw, const Placement& placement) {
    return nchw.to(placement.device, placement.dtype).contiguous(at::MemoryFormat::ChannelsLast);
}

bool needs_no_gradient(const at::Tensor& x) {
    return c10::InferenceMode::is_enabled() || !c10::GradMode::is_enabled() || !x.requires_grad();
}

// ---- Conv ----

struct Conv::Packed {
    std::mutex mutex;
    bool replaces_weight = false;
    at::Tensor origin;                ///< the weights, until the layout takes their place
    std::vector<std::int64_t> shape;  ///< of the input it is laid out for
    at::Tensor weight;
};

Conv::Conv(const at::Tensor& weight, const at::Tensor& bias, const ConvShape& shape,
           const Placement& placement)
    : weight_(placed(weight, placement).contiguous(at::MemoryFormat::ChannelsLast)),
      bias_(placed(bias, placement)),
      shape_(shape),
      out_channels_(weight.size(0)),
      emulated_(placement.emulated) {
    if (!fuses(placement) || weight.requires_grad()) return;
    packed_ = std::make_shared<Packed>();
    packed_->origin = weight_;
    packed_->replaces_weight = placement.inference_only;
    if (placement.inference_only) weight_.reset();
}

Conv Conv::for_strips() const {
    Conv conv = *this;
    conv.shape_.padding[0] = 0;
    return conv;
}

Conv Conv::with_more_bias(const at::Tensor& more) const {
    Conv conv = *this;
    const at::Tensor there =
        bias_.defined() ? bias_.to(at::kFloat) + more.to(bias_.device()) : more;
    conv.bias_ = there.to(bias_.defined() ? bias_.scalar_type() : at::kFloat);
    return conv;
}

at::Tensor Conv::packed_for(const at::Tensor& x) const {
    const std::lock_guard lock(packed_->mutex);
    // What for_strips() made shares the layout and pads less
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.push_back(shape_.padding[0]);
    if (packed_->shape != shape) {
        const ReturnFreedMemory weights;
        if (!packed_->origin.defined()) packed_->origin = packed_->weight.to_dense();
        packed_->weight = pack_conv_operator()->call(packed_->origin, shape_.padding, shape_.stride,
                                                     no_dilation, shape_.groups, x.sizes());
        packed_->shape = std::move(shape);
        if (packed_->replaces_weight) packed_->origin.reset();
    }
    return packed_->weight;
}

at::Tensor Conv::plain(const at::Tensor& x) const {
    return at::conv2d(emulated_ ? x.to(at::kFloat) : x, as_computed(weight_, x, emulated_),
                      maybe(as_computed(bias_, x, emulated_)), shape_.stride, shape_.padding,
                      no_dilation, shape_.groups);
}

at::Tensor Conv::operator()(const at::Tensor& x) const {
    if (takes_fused_path(x)) {
        return conv_operator()->call(x, packed_for(x), maybe(bias_), shape_.padding, shape_.stride,
                                     no_dilation, shape_.groups, "none", Scalars(), "");
    }
    return plain(x).to(x.scalar_type());
}

at::Tensor Conv::relu(const at::Tensor& x) const {
    if (takes_fused_path(x)) {
        return conv_operator()->call(x, packed_for(x), maybe(bias_), shape_.padding, shape_.stride,
                                     no_dilation, shape_.groups, "relu", Scalars(), "");
    }
    return at::relu(plain(x)).to(x.scalar_type());
}

at::Tensor Conv::leaky_relu(const at::Tensor& x, double slope) const {
    if (takes_fused_path(x)) {
        return conv_operator()->call(x, packed_for(x), maybe(bias_), shape_.padding, shape_.stride,
                                     no_dilation, shape_.groups, "leaky_relu",
                                     Scalars({std::optional<at::Scalar>(slope)}), "");
    }
    return at::leaky_relu(plain(x), slope).to(x.scalar_type());
}

at::Tensor Conv::add_(const at::Tensor& x, at::Tensor other) const {
    if (!takes_fused_path(x) || !needs_no_gradient(other)) {
        return (plain(x) + other).to(x.scalar_type());
    }
    return conv_add_operator()->call(other, x, packed_for(x), maybe(bias_), shape_.padding,
                                     shape_.stride, no_dilation, shape_.groups, "add", std::nullopt,
                                     std::nullopt, Scalars(), std::nullopt);
}

at::Tensor Conv::add_relu_(const at::Tensor& x, at::Tensor other) const {
    if (!takes_fused_path(x)) return at::relu(plain(x) + other).to(x.scalar_type());
    return conv_add_operator()->call(other, x, packed_for(x), maybe(bias_), shape_.padding,
                                     shape_.stride, no_dilation, shape_.groups, "add", std::nullopt,
                                     "relu", Scalars(), std::nullopt);
}

// ---- Linear ----

Linear::Linear(const at::Tensor& weight, const at::Tensor& bias, const Placement& placement)
    : weight_(placed(weight, placement).contiguous()),
      bias_(placed(bias, placement)),
      emulated_(placement.emulated) {
    if (!fuses(placement) || weight.requires_grad()) return;
    packed_ = pack_linear_operator()->call(weight_, std::nullopt);
    if (placement.inference_only) weight_.reset();
}

at::Tensor Linear::plain(const at::Tensor& x) const {
    return at::linear(emulated_ ? x.to(at::kFloat) : x, as_computed(weight_, x, emulated_),
                      maybe(as_computed(bias_, x, emulated_)));
}

at::Tensor Linear::fused(const at::Tensor& x, const char* after) const {
    return linear_operator()->call(x, packed_, maybe(bias_), after, Scalars(), "none");
}

bool Linear::takes_fused_path(const at::Tensor& x) const {
    return packed_.defined() && needs_no_gradient(x);
}

at::Tensor Linear::operator()(const at::Tensor& x) const {
    if (takes_fused_path(x)) return fused(x, "none");
    return plain(x).to(x.scalar_type());
}

at::Tensor Linear::relu(const at::Tensor& x) const {
    if (takes_fused_path(x)) return fused(x, "relu");
    return at::relu(plain(x)).to(x.scalar_type());
}

at::Tensor Linear::gelu(const at::Tensor& x) const {
    if (takes_fused_path(x)) return fused(x, "gelu");
    return at::gelu(plain(x)).to(x.scalar_type());
}

at::Tensor Linear::add(const at::Tensor& x, const at::Tensor& other) const {
    if (takes_fused_path(x) && needs_no_gradient(other)) {
        return linear_binary_operator()->call(x, other, packed_, maybe(bias_), "add");
    }
    return (plain(x) + other).to(x.scalar_type());
}

at::Tensor Linear::mul(const at::Tensor& x, const at::Tensor& other) const {
    if (takes_fused_path(x) && needs_no_gradient(other)) {
        return linear_binary_operator()->call(x, other, packed_, maybe(bias_), "mul");
    }
    return (plain(x) * other).to(x.scalar_type());
}

// ---- LayerNorm ----

LayerNorm::LayerNorm(StateDict& weights, const std::string& key, std::int64_t width, double eps,
                     const Placement& placement)
    : weight_(weights.take(key + ".weight", {width})),
      bias_(weights.take(key + ".bias", {width})),
      eps_(eps) {
    for (at::Tensor* parameter : {&weight_, &bias_}) {
        if (!parameter->requires_grad()) {
            *parameter = parameter->to(placement.device, placement.dtype);
        }
    }
}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
    return at::layer_norm(x, weight_.sizes(), as_computed(weight_, x, false),
                          as_computed(bias_, x, false), eps_);
}

// ---- From checkpoints ----

Conv take_conv(StateDict& weights, const std::string& key, at::IntArrayRef weight_shape, bool bias,
               const ConvShape& shape, const Placement& placement) {
    const at::Tensor w = weights.take(key + ".weight", weight_shape);
    const at::Tensor b = bias ? weights.take(key + ".bias", {weight_shape[0]}) : at::Tensor();
    return {w, b, shape, placement};
}

Linear take_linear(StateDict& weights, const std::string& key, std::int64_t out, std::int64_t in,
                   bool bias, const Placement& placement) {
    const at::Tensor w = weights.take(key + ".weight", {out, in});
    const at::Tensor b = bias ? weights.take(key + ".bias", {out}) : at::Tensor();
    return {w, b, placement};
}

Conv take_conv_norm(StateDict& weights, const std::string& conv_key, const std::string& norm_key,
                    at::IntArrayRef weight_shape, double eps, const ConvShape& shape,
                    const Placement& placement) {
    const auto norm = [&](const char* part) {
        return weights.take(norm_key + part, {weight_shape[0]}).to(at::kDouble);
    };
    weights.ignore(norm_key + ".num_batches_tracked");  // PyTorch's counter
    const at::Tensor w = weights.take(conv_key + ".weight", weight_shape).to(at::kDouble);
    const at::Tensor gamma = norm(".weight"), beta = norm(".bias");
    const at::Tensor mean = norm(".running_mean"), variance = norm(".running_var");
    const at::Tensor gain = gamma * at::rsqrt(variance + eps);
    return {(w * gain.view({-1, 1, 1, 1})).to(at::kFloat), (beta - mean * gain).to(at::kFloat),
            shape, placement};
}

}  // namespace ultrasr
