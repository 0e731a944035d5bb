// A checkpoint handed to a network piece by piece, by name and shape, with nothing left over.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tensor/named_tensors.h"

namespace ultrasr {

/// Collects every misfit, so that one message lists them all:
///
///     StateDict weights(tensors, "MUSIQ (musiq_koniq_ckpt-e95806b9.pth)");
///     weight_ = weights.take("conv_root.weight", {64, 3, 7, 7});
///     weights.ignore("classifier.");
///     weights.finish();
class StateDict {
  public:
    /// Makes the tensor of a name and shape, float32.
    using Maker = std::function<at::Tensor(const std::string& name, at::IntArrayRef shape)>;

    /// what  the network and the file, for the message
    StateDict(NamedTensors tensors, std::string what);

    /// Answers every take() with what `make` makes: random networks, tests.
    explicit StateDict(Maker make);

    /// The tensor, float32, on the CPU, as edit() changes it; it is handed out once and then
    /// forgotten, so that a large checkpoint need not lie in memory beside its network. Where it is
    /// missing, of another shape, or holds NaN or an infinity, finish() says so and zeros of the
    /// shape come back.
    at::Tensor take(const std::string& name, at::IntArrayRef shape);

    /// Changes the values of every tensor that take() hands out, such as merging LoRA into it: gets
    /// them in float32, not to be written into, and returns as many.
    using Edit = std::function<at::Tensor(const std::string& name, const at::Tensor& values)>;
    void edit(Edit change);

    /// Whether it is there, taken or not.
    bool contains(const std::string& name) const;

    /// The shape it has; empty where it is missing or will be made.
    std::vector<std::int64_t> shape_of(const std::string& name) const;

    /// Names that begin so may be there and are not looked at.
    void ignore(std::string prefix);

    /// throws Error(input) that lists what is missing, surplus, misshapen or not finite, the first
    ///        ten of each
    void finish() const;

  private:
    NamedTensors tensors_;
    std::string what_;
    Maker make_;
    Edit edit_;
    Shapes taken_;  ///< what was there and has been handed out
    std::vector<std::string> ignored_;
    std::vector<std::string> missing_, misshapen_, not_finite_;
};

}  // namespace ultrasr
