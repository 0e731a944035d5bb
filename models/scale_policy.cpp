#include "models/scale_policy.h"

#include <opencv2/imgproc.hpp>

#include "data/base/error.h"
#include "models/resample.h"

namespace ultrasr {

std::string policy_name(ScalePolicy policy) {
    switch (policy) {
        case ScalePolicy::post:
            return "post";
        case ScalePolicy::pre:
            return "pre";
        case ScalePolicy::cascade:
            return "cascade";
    }
    fail(Fault::internal, "a scale policy without a name");
}

std::string policy_rounding(ScalePolicy policy) {
    switch (policy) {
        case ScalePolicy::post:
            return "8 bit, half to even, after the network; then OpenCV Lanczos4 on 8 bit";
        case ScalePolicy::pre:
            return "8 bit, half to even, at the end";
        case ScalePolicy::cascade:
            return "8 bit, half to even, after the first pass and at the end";
    }
    fail(Fault::internal, "a scale policy without a name");
}

Image restore_by_policy(const Image& lr, PixelSize target, ScalePolicy policy, int network_scale,
                        const std::function<Image(const Image&)>& network) {
    const auto ends = [&](const Image& restored) {
        Image result = clamped(restored);
        if (result.size() != target) result = resize(result, target, Kernel::bicubic);
        return quantise_8bit(result);
    };
    if (policy == ScalePolicy::post) {
        const Image rounded = quantise_8bit(network(lr));
        return rounded.size() == target ? rounded : resize_8bit_lanczos4(rounded, target);
    }
    if (policy == ScalePolicy::pre) {
        const int s = network_scale;
        const PixelSize input{(target.width + s - 1) / s, (target.height + s - 1) / s};
        return ends(network(clamped(resize(lr, input, Kernel::bicubic))));
    }
    return ends(network(quantise_8bit(network(lr))));
}

Image resize_8bit_lanczos4(const Image& image, PixelSize target) {
    cv::Mat levels;
    image.mat().convertTo(levels, CV_8UC3, 255.0);
    cv::Mat resized;
    cv::resize(levels, resized, {target.width, target.height}, 0, 0, cv::INTER_LANCZOS4);
    Image result(target, image.encoding());
    for (int y = 0; y < target.height; ++y) {
        const auto* from = resized.ptr<unsigned char>(y);
        float* to = result.row_(y);
        for (int x = 0; x < 3 * target.width; ++x) to[x] = static_cast<float>(from[x]) / 255.0F;
    }
    return result;
}

}  // namespace ultrasr
