#include "data/tensor.h"

#include <ATen/ATen.h>

#include "data/base/error.h"

namespace ultrasr {

ImageBatch::ImageBatch(at::Tensor pixels) : nchw(std::move(pixels)) {
    if (nchw.dim() != 4 || nchw.size(1) != 3 || nchw.scalar_type() != at::kFloat) {
        fail(Fault::internal, "a batch of pictures is N x 3 x H x W float32, got {} dimensions",
             nchw.dim());
    }
}

ImageBatch batch_from_image(const Image& image) {
    // from_blob wants a writable pointer; the permuted copy below is the only access
    cv::Mat pixels = image.mat();
    const auto hwc = at::from_blob(pixels.data, {image.height(), image.width(), 3},
                                   {static_cast<long>(pixels.step1(0)), 3, 1},
                                   at::TensorOptions().dtype(at::kFloat));
    return ImageBatch(hwc.permute({2, 0, 1}).unsqueeze(0).clone(at::MemoryFormat::Contiguous));
}

Image image_from_batch(const ImageBatch& batch, int n) {
    const at::Tensor hwc =
        batch.nchw.select(0, n).detach().to(at::kCPU).clamp(0, 1).permute({1, 2, 0}).contiguous();
    Image image(PixelSize{static_cast<int>(hwc.size(1)), static_cast<int>(hwc.size(0))});
    const float* from = hwc.const_data_ptr<float>();
    const std::size_t row = 3 * static_cast<std::size_t>(image.width());
    for (int y = 0; y < image.height(); ++y) {
        std::copy_n(from + static_cast<std::size_t>(y) * row, row, image.row_(y));
    }
    return image;
}

}  // namespace ultrasr
