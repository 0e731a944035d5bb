#include "tests/cli/bench_set.h"

#include <nlohmann/json.hpp>

#include "data/base/random.h"
#include "data/image_io.h"
#include "tests/test.h"

namespace ultrasr::test {
namespace fs = std::filesystem;

Image picture(int width, int height, std::uint64_t item) {
    Image image(PixelSize{width, height});
    Rng rng(7, item);
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < 3 * width; ++x) {
            const int wave = (5 * x + 3 * y * static_cast<int>(item + 1)) % 97;
            const int noise = static_cast<int>(rng.below(64));
            image.row_(y)[x] = static_cast<float>(wave + noise) / 255.0F;
        }
    }
    return image;
}

void make_set(const fs::path& folder, int n, int side) {
    for (int i = 0; i < n; ++i) {
        const std::string name = "p" + std::to_string(i) + ".png";
        write_png(folder / "HR" / name, picture(side, side, static_cast<std::uint64_t>(i)));
        write_png(folder / "LR" / name, picture(side / 4, side / 4, static_cast<std::uint64_t>(i)));
    }
}

Ended bench(const fs::path& set, const fs::path& out, std::vector<std::string> more,
            const std::string& methods, const std::string& metrics) {
    std::vector<std::string> words{"--data",    set.string(), "--method", methods,
                                   "--metrics", metrics,      "--out",    out.string()};
    words.insert(words.end(), more.begin(), more.end());
    return run_program("ultrasr-bench", words);
}

Json json_of(const std::string& text) { return parse_json(text, "stdout"); }

}  // namespace ultrasr::test
