#include "models/one_step_memory.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>

#include "data/base/error.h"
#include "models/layers/norm_silu.h"

namespace ultrasr {
namespace {

constexpr double gib = 1024.0 * 1024.0 * 1024.0;
constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max();

/// A number that follows `key` in a file of the kernel; nothing where there is none ("max").
std::int64_t number_in(const char* path, const std::string& key, std::int64_t otherwise) {
    std::ifstream file(path);
    std::string word;
    if (!key.empty()) {
        while (file >> word && word != key) {
        }
    }
    std::int64_t value = 0;
    return file >> value ? value : otherwise;
}

std::int64_t taken_by_process() {
    std::ifstream file("/proc/self/statm");
    std::int64_t pages = 0;
    file >> pages;  // of address space
    return pages * static_cast<std::int64_t>(::sysconf(_SC_PAGESIZE));
}

/// Maps of `channels` at 1 / 2^level of a picture's size.
std::int64_t map_bytes(std::int64_t height, std::int64_t width, std::size_t level,
                       std::int64_t channels, std::int64_t bytes) {
    return (height >> level) * (width >> level) * channels * bytes;
}

std::int64_t vae_bytes(const VaeConfig& c, std::int64_t height, std::int64_t width,
                       std::int64_t bytes) {
    const std::vector<std::int64_t>& channels = c.block_out_channels;
    std::int64_t most = 0;
    for (std::size_t level = 0; level < channels.size(); ++level) {
        // A block's input and what its first convolution made of it
        const std::int64_t map = map_bytes(height, width, level, channels[level], bytes);
        most = std::max(most, 2 * map);
        if (level + 1 == channels.size()) continue;
        // The decoder's first block of a level: the smaller map and what it doubled to
        const std::int64_t small = map_bytes(height, width, level + 1, channels[level + 1], bytes);
        const bool stored = strip_bytes() == 0 || 4 * small < strips_of_a_large_map * strip_bytes();
        most = std::max(most, small + (stored ? 4 * small + 2 * map : map));
    }
    const std::int64_t pictures = height * width * 3 * 4 * 6;  // LR and SR, float32, in passing
    // Strips in work, and a fifth for what lies lost between blocks of memory: both measured
    return most + most / 5 + pictures + 20 * std::min(strip_bytes(), most);
}

std::int64_t unet_bytes(const UNetConfig& c, std::int64_t h, std::int64_t w, std::int64_t bytes) {
    // What the way down leaves for the way up, and at the top a feed-forward layer's two halves
    std::int64_t skips = 0;
    for (std::size_t level = 0; level < c.block_out_channels.size(); ++level) {
        skips += (c.layers_per_block[level] + 1) *
                 map_bytes(h, w, level, c.block_out_channels[level], bytes);
    }
    constexpr std::int64_t in_work = 14;  // maps of the widest resolution: 8 gated, 3 q k v, 3
    return skips + in_work * map_bytes(h, w, 0, c.block_out_channels.front(), bytes);
}

std::int64_t tile_side(std::int64_t h, std::int64_t w, const LatentTileOptions& tiles) {
    const bool whole = tiles.tile == 0 || h * w <= tiles.tile * tiles.tile;
    return whole ? 0 : std::min({tiles.tile, h, w});
}

std::int64_t limit_of(const Placement& placement, double most_gib) {
    const std::int64_t free = free_memory(placement);
    return most_gib > 0.0 ? std::min(free, static_cast<std::int64_t>(most_gib * gib)) : free;
}

}  // namespace

std::int64_t free_memory(const Placement& placement) {
    if (!placement.device.is_cpu()) return unlimited;  // its allocator says when it is full
    std::int64_t free = unlimited;
    const std::int64_t kib = number_in("/proc/meminfo", "MemAvailable:", -1);
    if (kib >= 0) free = kib * 1024;
    const std::int64_t group_most = number_in("/sys/fs/cgroup/memory.max", "", unlimited);
    if (group_most != unlimited) {
        const std::int64_t group_taken = number_in("/sys/fs/cgroup/memory.current", "", 0);
        const std::int64_t cache = number_in("/sys/fs/cgroup/memory.stat", "file", 0);
        free = std::min(free, group_most - group_taken + cache);
    }
    rlimit limit{};
    if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        free = std::min(free, static_cast<std::int64_t>(limit.rlim_cur) - taken_by_process());
    }
    return std::max<std::int64_t>(0, free);
}

OneStepMemory one_step_memory(const OneStepModel& model, std::int64_t height, std::int64_t width,
                              const LatentTileOptions& tiles, const Placement& placement) {
    const auto bytes = static_cast<std::int64_t>(c10::elementSize(placement.dtype));
    const std::int64_t factor = model.vae().config().factor();
    const std::int64_t h = height / factor, w = width / factor;
    const std::int64_t side = tile_side(h, w, tiles);
    const std::int64_t batch = side > 0 ? tiles.batch : 1;
    return {.vae = vae_bytes(model.vae().config(), height, width, bytes),
            .unet = batch * unet_bytes(model.unet().config(), side > 0 ? side : h,
                                       side > 0 ? side : w, bytes)};
}

void check_memory(const OneStepModel& model, std::int64_t height, std::int64_t width,
                  const LatentTileOptions& tiles, const Placement& placement, double most_gib) {
    const OneStepMemory needed = one_step_memory(model, height, width, tiles, placement);
    if (needed.largest() <= limit_of(placement, most_gib)) return;
    fail(Fault::device, "{}", too_little_memory(model, height, width, tiles, placement, most_gib));
}

std::string too_little_memory(const OneStepModel& model, std::int64_t height, std::int64_t width,
                              const LatentTileOptions& tiles, const Placement& placement,
                              double most_gib) {
    const OneStepMemory needed = one_step_memory(model, height, width, tiles, placement);
    const std::int64_t limit = limit_of(placement, most_gib);
    std::string there =
        limit == unlimited ? ""
                           : fmt::format(", and {:.1f} are free", static_cast<double>(limit) / gib);
    std::string text = fmt::format("{} x {} pixels take {:.1f} GiB beside the weights{}; ", width,
                                   height, static_cast<double>(needed.largest()) / gib, there);

    // A smaller tile, where it is the UNet that is too large
    LatentTileOptions smaller = tiles;
    for (const std::int64_t tile : {96, 64, 48, 32, 16}) {
        smaller.tile = tile;
        smaller.batch = 1;
        const OneStepMemory less = one_step_memory(model, height, width, smaller, placement);
        if (needed.unet > less.unet && (limit == unlimited || less.largest() <= limit)) {
            return text + fmt::format("--tile {} would fit", tile);
        }
    }
    if (placement.dtype == c10::kFloat) {
        Placement half = placement;
        half.dtype = c10::kBFloat16;
        smaller.tile = 96;
        if (one_step_memory(model, height, width, smaller, half).largest() <= limit) {
            return text + "--precision bf16 would fit";
        }
    }
    // No tile helps the VAE: say what would be small enough
    std::int64_t side = std::max<std::int64_t>(64, std::min(height, width) / 64 * 64);
    smaller.tile = 32;
    while (side > 64 && one_step_memory(model, side, side, smaller, placement).largest() > limit) {
        side -= 64;
    }
    if (one_step_memory(model, side, side, smaller, placement).largest() > limit) {
        return text + "not even 64 x 64 pixels of result would fit, give it more memory";
    }
    return text + fmt::format("cut the picture: {} x {} pixels of result would fit", side, side);
}

}  // namespace ultrasr
