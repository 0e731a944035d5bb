#include "models/tiling.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/reflection_pad2d.h>
#include <ATen/ops/replication_pad2d.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <new>
#include <string_view>

#include "data/base/error.h"
#include "data/base/progress.h"

namespace ultrasr {
namespace {

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

/// One run on the network's device.
at::Tensor run(const UpscaleNet& net, const at::Tensor& rgb) {
    return within_memory([&] { return net.forward(rgb).to(at::kCPU); },
                         [&] {
                             return fmt::format(
                                 "not enough memory for {} x {} pixels at once; use --tile with a "
                                 "smaller number",
                                 rgb.size(3), rgb.size(2));
                         });
}

}  // namespace

at::Tensor pad_to_multiple(const at::Tensor& rgb, std::int64_t multiple) {
    const std::int64_t down = round_up(rgb.size(2), multiple) - rgb.size(2);
    const std::int64_t right = round_up(rgb.size(3), multiple) - rgb.size(3);
    if (down == 0 && right == 0) return rgb;
    const bool reflects = down < rgb.size(2) && right < rgb.size(3);
    return reflects ? at::reflection_pad2d(rgb, {0, right, 0, down})
                    : at::replication_pad2d(rgb, {0, right, 0, down});
}

at::Tensor within_memory(const std::function<at::Tensor()>& work,
                         const std::function<std::string()>& sentence) {
    try {
        return work();
    } catch (const c10::OutOfMemoryError&) {
    } catch (const std::bad_alloc&) {
    } catch (const c10::Error& error) {
        const std::string_view text = error.what_without_backtrace();
        if (text.find("allocate memory") == std::string_view::npos) throw;
    }
    fail(Fault::device, "{}", sentence());
}

at::Tensor run_tiled(const UpscaleNet& net, const at::Tensor& rgb, const TileOptions& options) {
    const c10::InferenceMode guard;
    const std::int64_t s = net.scale();
    const at::Tensor whole = pad_to_multiple(rgb, net.multiple());
    const std::int64_t height = whole.size(2);
    const std::int64_t width = whole.size(3);
    const auto cut = [&](const at::Tensor& result) {
        return result.slice(2, 0, rgb.size(2) * s).slice(3, 0, rgb.size(3) * s);
    };
    Progress::throw_if_interrupted();
    const std::int64_t tile = round_up(options.tile, net.multiple());
    if (tile <= 0 || (tile >= height && tile >= width)) return cut(run(net, whole));

    const std::int64_t pad =
        round_up(options.pad < 0 ? net.receptive_radius() : options.pad, net.multiple());
    at::Tensor result = at::empty({1, 3, height * s, width * s}, rgb.options());
    for (std::int64_t y = 0; y < height; y += tile) {
        for (std::int64_t x = 0; x < width; x += tile) {
            Progress::throw_if_interrupted();
            // Cut the tile with its surroundings
            const std::int64_t y_end = std::min(y + tile, height);
            const std::int64_t x_end = std::min(x + tile, width);
            const std::int64_t top = std::max<std::int64_t>(y - pad, 0);
            const std::int64_t left = std::max<std::int64_t>(x - pad, 0);
            const at::Tensor piece = whole.slice(2, top, std::min(y_end + pad, height))
                                         .slice(3, left, std::min(x_end + pad, width))
                                         .contiguous();
            // Keep its core
            const at::Tensor core = run(net, piece)
                                        .slice(2, (y - top) * s, (y_end - top) * s)
                                        .slice(3, (x - left) * s, (x_end - left) * s);
            result.slice(2, y * s, y_end * s).slice(3, x * s, x_end * s).copy_(core);
        }
    }
    return cut(result);
}

}  // namespace ultrasr
