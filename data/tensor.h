// Pictures as LibTorch tensors.
#pragma once
#include <ATen/core/Tensor.h>

#include "data/base/fwd.h"
#include "data/image.h"

namespace ultrasr {

/// `nchw`: N x 3 x H x W, RGB, float32, [0,1], sRGB-encoded.
class ImageBatch {
  public:
    /// throws Error(internal) on another shape or type. Values are not looked at.
    explicit ImageBatch(at::Tensor pixels);

    at::Tensor nchw;
};

/// One picture as a batch of one, on the CPU.
ImageBatch batch_from_image(const Image& image);

/// Picture n of the batch, copied to the CPU, clamped to [0,1].
Image image_from_batch(const ImageBatch& batch, int n = 0);

}  // namespace ultrasr
