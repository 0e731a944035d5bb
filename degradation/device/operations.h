// One plan as operations on buffers, before anybody knows when they run and where the buffers lie.
#pragma once
#include <array>
#include <cstdint>
#include <variant>
#include <vector>

#include "degradation/device/program.h"

namespace ultrasr {

template <class List>
struct VariantOf;
template <class... Element>
struct VariantOf<ElementList<Element...>> {
    using type = std::variant<Element...>;
};
using AnyElement = VariantOf<DeviceElements>::type;

/// One element for one picture, its places not yet known.
struct Operation {
    AnyElement element;
    std::array<int, 3> sources{-1, -1, -1};  ///< buffers
    std::array<int, 2> targets{-1, -1};
    std::vector<int> after;  ///< operations of the same picture
};

/// All operations of one picture; numbers of buffers, arrays and sets are its own.
struct PictureProgram {
    std::vector<Operation> operations;
    std::vector<std::uint64_t> buffers;  ///< values in each
    std::vector<float> floats;
    std::vector<std::int32_t> ints;
    std::uint32_t sets = 0;
};

/// Follows run_plan step by step; every step must have a kernel.
PictureProgram picture_program(const DevicePicture& picture);

}  // namespace ultrasr
