// Convolutions and linear layers that may carry low-rank adapters beside their weights: in
// training, and to check that merged adapters do the same.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/tensor/layers.h"
#include "models/lora.h"

namespace ultrasr {

/// The adapters of one module, shared by the layer that applies them and the table that finds them.
using AdapterSlot = std::shared_ptr<std::vector<LoraPair>>;

/// Every module of a network that can carry adapters, by diffusers' name.
using AdapterTable = std::map<std::string, AdapterSlot>;

/// Hangs the adapters into the network's modules, beside those that are there. Tensors that require
/// gradients are trained: the modules keep those very tensors, float32 on the placement's device.
///
/// what    the network, for the message
/// throws  Error(input) that names the first ten modules which the network has not
void attach_lora(const AdapterTable& table, const LoraSet& adapters, const Placement& placement,
                 std::string_view what);

/// What a network takes from its state dict, found by building it on a device without memory.
Shapes shapes_taken(const std::function<void(StateDict& weights, const Placement&)>& build);

/// Where and how a network of this folder takes its layers.
struct Builder {
    StateDict& weights;
    Placement placement;
    /// Collects the modules; null: merged weights only, so that layers may be fused and packed.
    AdapterTable* adapters = nullptr;

    /// A slot under that name; null without a table.
    AdapterSlot slot(const std::string& key) const;
};

class AdaptedLinear {
  public:
    AdaptedLinear() = default;
    /// `key`.weight, [out, in], and `key`.bias. as_conv: the model calls it a 1 x 1 convolution,
    /// [out, in, 1, 1]; a file may have either shape.
    AdaptedLinear(const Builder& builder, const std::string& key, std::int64_t out, std::int64_t in,
                  bool bias, bool as_conv = false);

    at::Tensor operator()(const at::Tensor& x) const;
    at::Tensor gelu(const at::Tensor& x) const;
    at::Tensor add(const at::Tensor& x, const at::Tensor& other) const;

  private:
    bool adapted() const { return slot_ && !slot_->empty(); }
    at::Tensor extra(const at::Tensor& x) const;

    Linear linear_;
    AdapterSlot slot_;
};

class AdaptedConv {
  public:
    AdaptedConv() = default;
    AdaptedConv(const Builder& builder, const std::string& key, std::int64_t out, std::int64_t in,
                std::int64_t kernel, const ConvShape& shape);

    at::Tensor operator()(const at::Tensor& x) const;
    at::Tensor add_(const at::Tensor& x, at::Tensor other) const;

    bool adapted() const { return slot_ && !slot_->empty(); }
    /// The layer without adapters.
    const Conv& plain() const { return conv_; }
    void set_plain(Conv conv) { conv_ = std::move(conv); }

  private:
    at::Tensor extra(const at::Tensor& x) const;

    Conv conv_;
    ConvShape shape_;
    AdapterSlot slot_;
};

}  // namespace ultrasr
