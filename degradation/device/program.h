// A batch of plans as launches for a device: which step of which pictures runs when, and where its
// pixels lie.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "degradation/device/steps.h"
#include "degradation/plan.h"

namespace ultrasr {

/// One picture of a batch as its program sees it.
struct DeviceInput {
    const std::uint8_t* given = nullptr;  ///< in the device's memory, or null and
    std::uint64_t pixels = 0;             ///< where its bytes lie in DeviceMemory::pixels
    std::int64_t row_bytes = 0, pixel_bytes = 3, channel_bytes = 1;
};

/// Where a finished picture goes.
struct DeviceOutput {
    bool wanted = false;
    float* given = nullptr;    ///< in the device's memory, or null and
    std::uint64_t result = 0;  ///< its place in DeviceMemory::results
};
struct DeviceLevelOutput {
    DeviceOutput lr, lr_up;
};

struct DevicePicture {
    const Plan* plan = nullptr;
    DeviceInput input;
    DeviceOutput gt_usm;
    std::vector<DeviceLevelOutput> levels;  ///< one for each level of the plan
};

/// Everything that a device needs to know before it starts; nothing is decided while it runs.
struct DeviceProgram {
    std::vector<DeviceLaunch> launches;  ///< in their order
    std::vector<std::byte> records;      ///< elements, launch by launch, aligned to 16 bytes
    std::vector<float> floats;
    std::vector<std::int32_t> ints;
    std::uint64_t values = 0;  ///< length of DeviceMemory::values
    std::uint32_t sets = 0;    ///< of seen levels
};

/// Why a step of the plan has no kernel, as "step 'final.jpeg' (jpeg by libjpeg-turbo)"; empty when
/// all have one.
std::string step_without_kernel(const Plan& plan);

/// Steps wait for those whose results they read. Again and again the kind of step is launched that
/// the picture with the longest way to go waits for, for all pictures that wait for it: 64 pictures
/// of realesrgan at x4 take 45 launches that way, and 99 if the kind that most pictures wait for
/// goes first.
///
/// throws  Error(device) that names the picture and the step when a step has no kernel
DeviceProgram device_program(std::span<const DevicePicture> pictures);

}  // namespace ultrasr
