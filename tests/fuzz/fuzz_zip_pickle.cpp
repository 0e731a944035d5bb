// torch.save: whole zip files, or their data.pkl.
#include "tests/fuzz/fuzz_zip.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    ultrasr::fuzz::read_zip(ultrasr::fuzz::text(data, size), false);
    return 0;
}
