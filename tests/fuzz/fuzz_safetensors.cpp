// safetensors: the bytes as they are, or as the JSON head of a file whose length is right.
#include <cstring>

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace ultrasr;
    const std::string_view bytes = fuzz::text(data, size);
    if (!bytes.starts_with('{')) {
        fuzz::read(bytes);
        return 0;
    }
    std::string file(8, '\0');
    const std::uint64_t length = size;
    std::memcpy(file.data(), &length, 8);
    fuzz::read(file + std::string(bytes) + fuzz::storage_bytes(0));
    return 0;
}
