#include "tests/fuzz/fuzz.h"

#include <cstdlib>
#include <span>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/weights/checkpoint.h"

namespace ultrasr::fuzz {

void read(std::string_view bytes) {
    // An own copy of exactly this size, so that the address sanitizer sees the first byte beyond
    const std::vector<char> copy(bytes.begin(), bytes.end());
    try {
        const Checkpoint checkpoint = parse_checkpoint(std::as_bytes(std::span(copy)), "fuzzed");
        std::uint64_t sum = 0;
        for (const TensorView& t : checkpoint.tensors()) {
            std::uint64_t count = 1;
            for (const std::int64_t n : t.shape) {
                if (n < 0) std::abort();
                count *= static_cast<std::uint64_t>(n);
            }
            if (count * item_size(t.dtype) != t.bytes.size()) std::abort();
            if (checkpoint.find(t.name) == nullptr) std::abort();
            for (const std::byte b : t.bytes) sum += static_cast<std::uint64_t>(b);
        }
        volatile std::uint64_t kept = sum + dump_json(checkpoint.extras()).size();
        static_cast<void>(kept);
    } catch (const Error& error) {
        if (error.fault() != Fault::input || error.sentence().empty()) std::abort();
    }
}

}  // namespace ultrasr::fuzz
