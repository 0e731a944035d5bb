#include "models/training/step_data.h"

#include <ATen/ops/cat.h>

#include "data/base/error.h"
#include "data/pair_dataset.h"
#include "data/tensor.h"
#include "models/resample.h"
#include "models/training/draws.h"

namespace ultrasr {

TrainingDataOptions data_options(const TrainSettings& settings, const StageSettings& stage,
                                 std::string_view name, const c10::Device& device) {
    TrainingDataOptions options;
    options.roots = settings.data;
    options.small = small_policy(settings.small);
    options.patch = static_cast<int>(stage.patch);
    options.presets = {settings.preset};
    options.couple = couple(settings.couple);
    if (!settings.resize_back.empty()) {
        options.resize_back = settings.resize_back == "area"       ? ResizeBack::area
                              : settings.resize_back == "bilinear" ? ResizeBack::bilinear
                              : settings.resize_back == "bicubic"  ? ResizeBack::bicubic
                                                                   : ResizeBack::drawn;
    }
    // Stages draw pictures of their own
    options.seed = settings.seed + (hash_of(name) << 20);
    options.cache_bytes = static_cast<std::size_t>(settings.cache_mb) << 20;
    options.threads = static_cast<int>(settings.data_threads);
    options.pin = device.is_cuda();
    return options;
}

MicroBatch part_of(const TrainingBatch& batch, std::uint64_t first, std::int64_t step,
                   std::int64_t from, std::int64_t count, const c10::Device& device) {
    const auto cut = [&](const at::Tensor& all) {
        return all.narrow(0, from, count).to(device, /*non_blocking=*/true);
    };
    MicroBatch part{.step = step,
                    .first = first + static_cast<std::uint64_t>(from),
                    .hr = cut(batch.hr),
                    .lr_up = {},
                    .names = {}};
    for (const at::Tensor& level : batch.lr_up) part.lr_up.push_back(cut(level));
    part.names.assign(batch.names.begin() + from, batch.names.begin() + from + count);
    return part;
}

std::optional<MicroBatch> validation_pairs(const TrainSettings& settings, std::int64_t patch,
                                           std::size_t levels, const c10::Device& device) {
    if (settings.validation.empty() || levels == 0) return std::nullopt;
    std::vector<at::Tensor> hr, lr;
    MicroBatch batch;
    for (const PairSet& set : find_pair_sets(settings.validation)) {
        for (const ImagePair& pair : set.pairs) {
            if (hr.size() == static_cast<std::size_t>(settings.validation_count)) break;
            if (pair.hr_size.width < patch || pair.hr_size.height < patch) continue;
            const Image small = read_picture(pair.lr).image;
            const at::Tensor up =
                batch_from_image(clamped(resize(small, pair.hr_size, Kernel::bicubic))).nchw;
            const auto middle = [&](const at::Tensor& x) {
                return x.narrow(2, (x.size(2) - patch) / 2, patch)
                    .narrow(3, (x.size(3) - patch) / 2, patch);
            };
            hr.push_back(middle(batch_from_image(read_picture(pair.hr).image).nchw));
            lr.push_back(middle(up));
            batch.names.push_back(pair.stem);
        }
    }
    require(!hr.empty(),
            "validation: no pair of {} is as large as a patch of {} pixels; choose a smaller patch "
            "or larger pairs, or leave validation empty",
            settings.validation, patch);
    batch.first = validation_samples;
    batch.hr = at::cat(hr).to(device);
    batch.lr_up.assign(levels, at::cat(lr).to(device));
    return batch;
}

}  // namespace ultrasr
