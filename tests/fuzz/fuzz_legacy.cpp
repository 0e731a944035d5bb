// torch.save before 1.6: whole files, or the pickle of the object between sound neighbours.
#include "tests/data/zip_file.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace ultrasr;
    const std::string_view bytes = fuzz::text(data, size);
    const std::string magic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    if (bytes.starts_with(magic)) {
        fuzz::read(bytes);
        return 0;
    }
    // The storages that exist are those whose key the object mentions, each of 64 elements
    std::string file = magic + "\x80\x02M\xe9\x03.\x80\x02}." + std::string(bytes) + "\x80\x02](";
    std::string storages;
    for (int i = 0; i < fuzz::storage_count; ++i) {
        const std::string key = "X\x01" + std::string(3, '\0') + std::to_string(i);
        if (bytes.find(key) == std::string_view::npos) continue;
        file += key;
        storages += test::little(64, 8) + fuzz::storage_bytes(i);
    }
    fuzz::read(file + "e." + storages);
    return 0;
}
