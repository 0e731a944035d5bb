#include "models/cuda_graph.h"

#include <ATen/ops/empty_like.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "data/base/log.h"

namespace ultrasr {
namespace {

std::string bucket_of(const std::string& name, const GraphCache::Tensors& inputs) {
    std::string bucket = name;
    for (const at::Tensor& input : inputs) {
        bucket += fmt::format(" {}", c10::toString(input.scalar_type()));
        for (const std::int64_t size : input.sizes()) bucket += fmt::format(" {}", size);
    }
    return bucket;
}

}  // namespace

GraphCache::GraphCache(std::unique_ptr<DeviceGraphs> device, std::size_t most)
    : device_(std::move(device)), most_(std::max<std::size_t>(1, most)) {}

bool GraphCache::seen_before(const std::string& bucket) {
    constexpr std::size_t remembered = 64;
    const auto found = std::find(seen_.begin(), seen_.end(), bucket);
    if (found != seen_.end()) {
        seen_.erase(found);
        return true;
    }
    seen_.push_front(bucket);
    if (seen_.size() > remembered) seen_.pop_back();
    return false;
}

GraphCache::Recorded GraphCache::record(const std::string& bucket, const Tensors& inputs,
                                        const Pass& pass) {
    Recorded made{.bucket = bucket, .inputs = {}, .graph = nullptr};
    for (const at::Tensor& input : inputs) {
        made.inputs.push_back(
            at::empty_like(input, input.options().device(inputs.front().device())));
        made.inputs.back().copy_(input);
    }
    made.graph = device_->record([pass, own_inputs = made.inputs] { return pass(own_inputs); });
    return made;
}

GraphCache::Tensors GraphCache::run(const std::string& name, const Tensors& inputs,
                                    const Pass& pass) {
    const std::string bucket = bucket_of(name, inputs);
    std::unique_lock lock(mutex_);
    auto found = std::find_if(recorded_.begin(), recorded_.end(),
                              [&](const Recorded& r) { return r.bucket == bucket; });
    if (found != recorded_.end()) {
        recorded_.splice(recorded_.begin(), recorded_, found);
    } else {
        if (broken_ || !seen_before(bucket)) {
            lock.unlock();
            return pass(inputs);
        }
        try {
            recorded_.push_front(record(bucket, inputs, pass));
        } catch (const std::exception& error) {
            broken_ = true;
            lock.unlock();
            const std::string_view why = error.what();
            warn("CUDA graphs are not used any more, a pass cannot be recorded: {}",
                 why.substr(0, why.find('\n')));
            return pass(inputs);
        }
        if (recorded_.size() > most_) recorded_.pop_back();
    }

    // Between copying in and copying out nobody else may use the graph's memory
    const Recorded& graph = recorded_.front();
    for (std::size_t i = 0; i < inputs.size(); ++i) graph.inputs[i].copy_(inputs[i]);
    graph.graph->replay();
    Tensors results;
    for (const at::Tensor& output : graph.graph->outputs()) results.push_back(output.clone());
    return results;
}

void GraphCache::clear() {
    const std::lock_guard lock(mutex_);
    recorded_.clear();
    seen_.clear();
}

std::unique_ptr<GraphCache> open_graph_cache(const c10::Device& device) {
    const char* wanted = std::getenv("ULTRASR_CUDA_GRAPHS");
    if (!device.is_cuda() || (wanted && std::string_view(wanted) == "0")) return nullptr;
    std::unique_ptr<DeviceGraphs> graphs = open_device_graphs(device);
    return graphs ? std::make_unique<GraphCache>(std::move(graphs)) : nullptr;
}

}  // namespace ultrasr
