// A hook around the blocks of a network, for training that trades time for memory.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <functional>
#include <vector>

namespace ultrasr {

/// A part of a network as a function of the maps it reads. It may be called again during backward,
/// so the network must still live then.
using Block = std::function<at::Tensor(at::ArrayRef<at::Tensor> inputs)>;

/// Runs a block, now and perhaps once more; empty: blocks just run. Undefined inputs are handed on.
using BlockRunner = std::function<at::Tensor(const Block& block, std::vector<at::Tensor> inputs)>;

}  // namespace ultrasr
