#include "degradation/tensor.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "data/base/error.h"
#include "degradation/pipeline.h"

namespace ultrasr {
namespace {

bool sharpens(const Plan& plan) { return !plan.shared.empty() && plan.shared[0].name == "usm"; }

/// All plans make the pictures that the first one makes.
void check_plans(std::span<const Plan> plans, std::int64_t n, PixelSize gt) {
    require(static_cast<std::int64_t>(plans.size()) == n, "{} patches came with {} plans", n,
            plans.size());
    for (std::size_t i = 0; i < plans.size(); ++i) {
        const Plan &plan = plans[i], &first = plans[0];
        require(plan.gt == gt, "plan {} is for a patch of {} x {}, the patches have {} x {}", i,
                plan.gt.width, plan.gt.height, gt.width, gt.height);
        require(plan.levels.size() == first.levels.size() && sharpens(plan) == sharpens(first),
                "plan {} has other levels than the first one; a batch of tensors has one shape", i);
        for (std::size_t l = 0; l < plan.levels.size(); ++l) {
            const LevelPlan &ours = plan.levels[l], &theirs = first.levels[l];
            require(ours.lr == theirs.lr && ours.back.empty() == theirs.back.empty(),
                    "level {} of plan {} has another size than in the first plan; a batch of "
                    "tensors has one shape",
                    level_name(ours), i);
        }
    }
}

at::Tensor pictures(std::int64_t n, PixelSize size, const at::Device& device) {
    return at::empty({n, 3, size.height, size.width},
                     at::TensorOptions().dtype(at::kFloat).device(device));
}

float* picture_of(const at::Tensor& pictures, std::size_t i) {
    if (!pictures.defined()) return nullptr;
    return pictures.data_ptr<float>() + static_cast<std::int64_t>(i) * pictures.stride(0);
}

}  // namespace

DegradeBatch degrade_batch_on(const at::Device& device) {
    if (device.is_cpu()) return DegradeBatch();
    if (!device.is_cuda()) {
        fail(Fault::device, "degradation runs on cpu and cuda, not on {}; move the patches",
             device.str());
    }
    const c10::impl::VirtualGuardImpl guard(at::kCUDA);
    const at::Device gpu = device.has_index() ? device : guard.getDevice();
    return DegradeBatch({.kind = BatchDevice::cuda,
                         .index = gpu.index(),
                         .stream = guard.getStream(gpu).native_handle()});
}

DegradedTensors degrade_batch(const at::Tensor& gt, PixelOrder order, std::span<const Plan> plans,
                              DegradeBatch& batch) {
    const int height_dim = order == PixelOrder::nhwc ? 1 : 2;
    const int channel_dim = order == PixelOrder::nhwc ? 3 : 1;
    require(gt.dim() == 4 && gt.size(channel_dim) == 3 && gt.scalar_type() == at::kByte &&
                gt.numel() > 0,
            "GT patches are {}, uint8, not {} dimensions of {}",
            order == PixelOrder::nhwc ? "N x H x W x 3" : "N x 3 x H x W", gt.dim(),
            at::toString(gt.scalar_type()));
    const PixelSize size{static_cast<int>(gt.size(height_dim + 1)),
                         static_cast<int>(gt.size(height_dim))};
    const std::int64_t n = gt.size(0);
    check_plans(plans, n, size);

    // One tensor a level, of which each patch fills its part
    DegradedTensors out;
    const Plan& first = plans[0];
    if (sharpens(first)) out.gt_usm = pictures(n, size, gt.device());
    for (const LevelPlan& level : first.levels) {
        out.lr.push_back(pictures(n, level.lr, gt.device()));
        out.lr_up.push_back(level.back.empty() ? at::Tensor() : pictures(n, size, gt.device()));
    }
    std::vector<BatchItem> items(plans.size());
    for (std::size_t i = 0; i < plans.size(); ++i) {
        BatchItem& item = items[i];
        item.plan = &plans[i];
        item.gt = {gt.const_data_ptr<std::uint8_t>() + static_cast<std::int64_t>(i) * gt.stride(0),
                   gt.stride(height_dim), gt.stride(height_dim + 1), gt.stride(channel_dim)};
        item.gt_usm = picture_of(out.gt_usm, i);
        for (std::size_t l = 0; l < first.levels.size(); ++l) {
            item.levels.push_back({picture_of(out.lr[l], i), picture_of(out.lr_up[l], i)});
        }
    }
    const BatchMemory memory = gt.is_cpu() ? BatchMemory::host : BatchMemory::device;
    batch.run(items, memory, memory);
    return out;
}

}  // namespace ultrasr
