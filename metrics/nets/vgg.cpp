#include "metrics/nets/vgg.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>

#include "data/image.h"
#include "metrics/net_metric.h"

namespace ultrasr {

Vgg16::Vgg16(StateDict& weights, const Placement& placement) : placement_(placement) {
    // features.<i>: every convolution and ReLU counts, and the pool before a stage
    constexpr std::array<int, 5> depth{2, 2, 3, 3, 3};
    int index = 0;
    std::int64_t in = 3;
    for (std::size_t s = 0; s < channels.size(); ++s) {
        for (int i = 0; i < depth[s]; ++i) {
            convs_[s].push_back(take_conv(weights, fmt::format("features.{}", index),
                                          {channels[s], in, 3, 3}, true, {.padding = {1, 1}},
                                          placement));
            in = channels[s];
            index += 2;
        }
        ++index;
    }
}

at::Tensor Vgg16::stage(std::size_t s, at::Tensor x) const {
    for (const Conv& conv : convs_[s]) x = conv.relu(x);
    return x;
}

at::Tensor Vgg16::first_stage(const at::Tensor& x) const { return stage(0, x); }

void Vgg16::later_stages(const at::Tensor& map, const Pool& pool, const Tap& tap) const {
    at::Tensor x = map;
    for (std::size_t s = 1; s < channels.size(); ++s) {
        x = stage(s, pool(x));
        tap(s, x);
    }
}

void Vgg16::forward(const at::Tensor& x, const Pool& pool, const Tap& tap) const {
    const at::Tensor map = first_stage(x);
    tap(0, map);
    later_stages(map, pool, tap);
}

at::Tensor imagenet_normalised(const at::Tensor& rgb, const Placement& placement) {
    const auto row = [&](std::array<double, 3> v) {
        return at::tensor(at::ArrayRef<double>(v), at::kDouble)
            .to(rgb.device(), at::kFloat)
            .view({1, 3, 1, 1});
    };
    return to_activation((rgb - row({0.485, 0.456, 0.406})) / row({0.229, 0.224, 0.225}),
                         placement);
}

at::Tensor max_pool_2x2(const at::Tensor& x) { return at::max_pool2d(x, {2, 2}, {2, 2}); }

// ---- Sharing ----

struct SharedVgg16::Cache {
    struct Entry {
        Image image;  // a handle: while it is held no other picture has its address
        at::Tensor map;
    };
    std::mutex mutex;
    std::deque<Entry> entries;  // the two pictures of a pair
};

std::shared_ptr<SharedVgg16> SharedVgg16::load(const MetricInfo& metric,
                                               const MetricOptions& options,
                                               std::vector<WeightRecord>& records) {
    static std::mutex mutex;
    static std::map<std::string, std::weak_ptr<SharedVgg16>> loaded;
    const std::lock_guard lock(mutex);
    const std::string key = fmt::format("{} {} {} {}", options.weights.weights.string(),
                                        options.weights.unverified_weights, options.compute.device,
                                        static_cast<int>(options.compute.precision));
    if (auto there = loaded[key].lock()) {
        records.insert(records.end(), there->records_.begin(), there->records_.end());
        return there;
    }
    std::vector<WeightRecord> own;
    StateDict weights = load_for_metric(metric, "vgg16-397923af.pth", options, own);
    auto net = std::make_unique<const Vgg16>(weights, place(options));
    weights.ignore("classifier.");
    weights.finish();
    auto made = std::make_shared<SharedVgg16>(std::move(net));
    made->records_ = own;
    made->cache_ = std::make_shared<Cache>();
    made->self_ = made;
    records.insert(records.end(), own.begin(), own.end());
    loaded[key] = made;
    return made;
}

at::Tensor SharedVgg16::first_stage(const Image& image) const {
    const c10::InferenceMode guard;
    const auto compute = [&] {
        return net_->first_stage(
            imagenet_normalised(picture_on(image, net_->placement()), net_->placement()));
    };
    if (!cache_ || self_.use_count() < 2) return compute();
    {
        const std::lock_guard lock(cache_->mutex);
        for (const auto& [known, map] : cache_->entries) {
            if (known.row(0) == image.row(0) && known.size() == image.size()) return map;
        }
    }
    at::Tensor map = compute();
    if (map.nbytes() <= std::size_t{256} << 20) {
        const std::lock_guard lock(cache_->mutex);
        cache_->entries.push_back({image, map});
        if (cache_->entries.size() > 2) cache_->entries.pop_front();
    }
    return map;
}

}  // namespace ultrasr
