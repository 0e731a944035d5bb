// The devices that tests of twins run over.
#pragma once
#include <vector>

#include "data/base/error.h"
#include "data/tensor/device.h"
#include "tests/test.h"

namespace ultrasr::test {

/// The CPU, and a CUDA GPU where there is one; a message says where not.
inline std::vector<c10::Device> devices() {
    std::vector<c10::Device> found{c10::Device(c10::kCPU)};
    try {
        found.push_back(open_device("cuda"));
    } catch (const Error& error) {
        MESSAGE("the GPU itself is not tested: " << error.sentence());
    }
    return found;
}

}  // namespace ultrasr::test
