// Memory for time: a block of a network whose activations are computed again for the backward pass
// instead of being kept from the forward pass.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "models/layers/block_runner.h"

namespace ultrasr {

/// block(inputs), of which only the inputs are kept. The backward pass calls `block` again, with
/// gradient, so it has to return the same again, and what it holds by reference has to live until
/// then. Outputs and gradients are those of the plain call, bit for bit where the block computes
/// the same with and without gradients; our networks' layers fuse where none are asked for, and
/// then round otherwise (1e-6). Blocks may contain such blocks.
///
/// inputs   any; undefined ones, whole numbers and those that need no gradient too
/// returns  block's tensor; it needs a gradient also where nothing in the block does, since that
///          shows only when the block is run with gradient. Without gradient mode: block(inputs).
/// throws   what block throws, also from the backward pass; c10::Error there when an input was
///          written into meanwhile. Gradients arrive by backward(); torch's grad() for chosen
///          tensors does not see the parameters inside, and there are no second derivatives.
/// Source: Chen et al., "Training deep nets with sublinear memory cost", 2016.
at::Tensor checkpointed(const Block& block, std::vector<at::Tensor> inputs);

}  // namespace ultrasr
