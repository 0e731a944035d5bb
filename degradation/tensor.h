// Degradation of tensors, on the device where they lie.
#pragma once
#include <span>
#include <vector>
#include <ATen/core/Tensor.h>

#include "degradation/degrade_batch.h"

namespace ultrasr {

enum class PixelOrder { nhwc, nchw };

struct DegradedTensors {
    at::Tensor gt_usm;           ///< N x 3 x H x W, sharpened GT; undefined without USM
    std::vector<at::Tensor> lr;  ///< one a level: N x 3 x h x w, RGB, float32, [0,1]
    std::vector<at::Tensor>
        lr_up;  ///< the same at GT's size; undefined where a plan has no way back
};

/// The batch that works where `device` says: the CPU, or a GPU on the stream that is LibTorch's
/// current one now; tensors must be made and used on that stream.
/// throws Error(device) as DegradeBatch does, and for other devices
DegradeBatch degrade_batch_on(const at::Device& device);

/// Degrades a batch of GT patches of one size.
///
/// gt      N x H x W x 3 or N x 3 x H x W as `order` says, uint8, any strides, RGB
/// plans   one a patch, all with the same levels (scales and LR sizes); see make_plans
/// batch   made by degrade_batch_on(gt.device()); keeps its memory for the next call
/// returns tensors on gt's device; on a GPU they are there in the order of its stream
/// throws  Error(input) for another shape or type, or plans that do not fit; as DegradeBatch::run
DegradedTensors degrade_batch(const at::Tensor& gt, PixelOrder order, std::span<const Plan> plans,
                              DegradeBatch& batch);

}  // namespace ultrasr
