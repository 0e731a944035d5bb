#include "registration/pack.h"

#include <algorithm>
#include <vector>

#include "data/base/error.h"
#include "data/pair_store.h"

namespace ultrasr {
namespace fs = std::filesystem;

std::size_t pack_pairs(const fs::path& out, const fs::path& file) {
    require(fs::exists(out / "manifest.json"), "{} holds no manifest.json; register first",
            out.string());
    std::vector<fs::path> stores;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(out / "h5", code)) {
        if (entry.path().extension() == ".h5") stores.push_back(entry.path());
    }
    require(!stores.empty(), "{} holds no accepted pair to pack", out.string());
    std::sort(stores.begin(), stores.end());
    pack_pair_stores(file, stores);
    return PairStore(file).entries().size();
}

}  // namespace ultrasr
