// Training checkpoints: the bytes are a value of the outer dictionary, between two sound tensors.
#include "tests/fuzz/fuzz_zip.h"

namespace {

std::string tensor(const std::string& name, char storage) {
    return "X" + ultrasr::test::little(name.size(), 4) + name +
           "ctorch._utils\n_rebuild_tensor_v2\n((X\x07" + std::string(3, '\0') +
           "storagectorch\nFloatStorage\nX\x01" + std::string(3, '\0') + storage + "X\x03" +
           std::string(3, '\0') + "cpuK\x08tQK\x01K\x04\x85K\x01\x85\x89}tR";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // A seed is a whole pickle; its PROTO and STOP make no harm and no sense inside of another
    std::string_view bytes = ultrasr::fuzz::text(data, size);
    if (bytes.starts_with("\x80")) bytes.remove_prefix(std::min<std::size_t>(2, bytes.size()));
    if (bytes.ends_with('.')) bytes.remove_suffix(1);
    ultrasr::fuzz::read_zip("\x80\x02}(" + tensor("first", '8') + "X\x05" + std::string(3, '\0') +
                                "outer" + std::string(bytes) + tensor("last", '9') + "u.",
                            false);
    return 0;
}
