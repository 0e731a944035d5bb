#include "data/weights/weight_store.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <system_error>

#include "data/base/error.h"
#include "data/file.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view real_esrgan_licence = "BSD-3-Clause, (c) 2021 Xintao Wang";

// Sizes, hashes, addresses: peer_methods.md 5 and 6.3; the hashes are those of our conversions.
constexpr std::array files{
    WeightFile{
        .file = "BSRGAN.safetensors",
        .bytes = 66'900'000,
        .sha256 = "",
        .licence = "Apache-2.0, (c) Kai Zhang",
        .address = "https://github.com/cszn/KAIR/releases/download/v1.0/BSRGAN.pth",
        .remark = "the state dict of that file saved as safetensors",
        .purpose = "bsrgan",
    },
    WeightFile{
        .file = "RealESRGAN_x4plus.safetensors",
        .bytes = 33'487'084,
        .sha256 = "8c34469c1a2390b9d05c04792320b293278d4b55c3552ed3d3833d6948dbf845",
        .licence = real_esrgan_licence,
        .address = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.0/"
                   "RealESRGAN_x4plus.pth",
        .remark = "convolution weights as float16, from the ncnn copy of that release",
        .purpose = "realesrgan-x4plus",
    },
    WeightFile{
        .file = "realesr-animevideov3.safetensors",
        .bytes = 2'490'336,
        .sha256 = "9b4513320098404f98c29366c34fb02d1bacfeb2113b895fc9624f01066bb6d6",
        .licence = real_esrgan_licence,
        .address = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.2.5.0/"
                   "realesr-animevideov3.pth",
        .remark = "convolution weights rounded to float16, from the ncnn copy of that release",
        .purpose = "realesr-animevideov3",
    },
    WeightFile{
        .file = "realesr-general-wdn-x4v3.safetensors",
        .bytes = 4'861'720,
        .sha256 = "74d75939f4dc7c44ad174085763c2178484d745de65ec90de4826fa9e78f362e",
        .licence = real_esrgan_licence,
        .address = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.2.5.0/"
                   "realesr-general-wdn-x4v3.pth",
        .remark = "convolution weights rounded to float16, from the ncnn copy of that release",
        .purpose = "realesr-general-x4v3 with a denoise strength below 1",
    },
    WeightFile{
        .file = "realesr-general-x4v3.safetensors",
        .bytes = 4'861'744,
        .sha256 = "27c552fcd51641887b3752c7026249ab1e7720dca5a6416247cfa532f66a2e12",
        .licence = real_esrgan_licence,
        .address = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.2.5.0/"
                   "realesr-general-x4v3.pth",
        .remark = "convolution weights rounded to float16, from the ncnn copy of that release",
        .purpose = "realesr-general-x4v3",
    },
};

fs::path folder_or_default(const fs::path& folder) {
    return folder.empty() ? default_weights_folder() : folder;
}

std::string in_megabytes(std::uint64_t bytes) {
    return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

}  // namespace

std::span<const WeightFile> known_weights() { return files; }

const WeightFile& known_weight(std::string_view file) {
    const auto found = std::find_if(files.begin(), files.end(),
                                    [&](const WeightFile& w) { return w.file == file; });
    if (found == files.end()) fail(Fault::internal, "no record of a weight file named {}", file);
    return *found;
}

fs::path default_weights_folder() {
    if (const char* chosen = std::getenv("ULTRASR_WEIGHTS"); chosen && *chosen) return chosen;

    // Look beside the program and above it
    std::error_code ignored;
    fs::path above = fs::read_symlink("/proc/self/exe", ignored).parent_path();
    for (int i = 0; i <= 5 && !above.empty(); ++i) {
        for (const char* below : {"share/ultrasr/weights", "data/weights"}) {
            if (fs::is_directory(above / below, ignored)) return above / below;
        }
        if (above == above.root_path()) break;
        above = above.parent_path();
    }
    return ULTRASR_SOURCE_WEIGHTS;
}

bool have_weights(std::string_view file, const fs::path& folder) {
    std::error_code ignored;
    return fs::is_regular_file(folder_or_default(folder) / file, ignored);
}

std::string how_to_get_weights(std::string_view file, const fs::path& folder) {
    const WeightFile& w = known_weight(file);
    return fmt::format(
        "{} ({}{}, licence {}) from {} ({}) belongs into {}; put it there or name its "
        "folder with --weights",
        w.file, w.sha256.empty() ? "about " : "", in_megabytes(w.bytes), w.licence, w.address,
        w.remark, folder_or_default(folder).string());
}

FoundWeights find_weights(std::string_view file, const fs::path& folder, bool allow_unverified) {
    const WeightFile& w = known_weight(file);
    FoundWeights found{.path = folder_or_default(folder) / w.file, .sha256 = {}, .verified = false};
    require(fs::exists(found.path), "a weight file is missing: {}",
            how_to_get_weights(file, folder));
    found.sha256 = sha256_of_file(found.path);
    found.verified = found.sha256 == w.sha256;
    require(
        found.verified || allow_unverified || w.sha256.empty(),
        "{} is not the file we know (SHA-256 {}, expected {}): fetch it again, or accept it with "
        "--unverified-weights",
        found.path.string(), found.sha256, w.sha256);
    return found;
}

}  // namespace ultrasr
