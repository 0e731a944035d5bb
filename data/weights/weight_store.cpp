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

constexpr WeightFile of_demonstration(std::string_view file, std::uint64_t bytes,
                                      std::string_view sha256) {
    return {
        .file = file,
        .bytes = bytes,
        .sha256 = sha256,
        .licence = "of this project; learnt from photographs under CC0, CC BY, CC BY-SA and GPL-2+",
        .address = "",
        .remark = "see models/demonstration",
        .used_by = "sdd"};
}

// Sizes, hashes, addresses: peer_methods.md 5 and 6.3; the hashes are those of our conversions.
constexpr std::array files{
    WeightFile{
        .file = "BSRGAN.safetensors",
        .bytes = 66'900'000,
        .sha256 = "",
        .licence = "Apache-2.0, (c) Kai Zhang",
        .address = "https://github.com/cszn/KAIR/releases/download/v1.0/BSRGAN.pth",
        .remark = "through ultrasr-weights convert BSRGAN.pth BSRGAN.safetensors",
        .used_by = "bsrgan",
    },
    WeightFile{
        .file = "CLIP-IQA+_learned_prompts-603f3273.pth",
        .bytes = 67'000,
        .sha256 = "603f3273",
        .licence = "S-Lab Licence 1.0 (not for commercial use)",
        .address = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
                   "CLIP-IQA+_learned_prompts-603f3273.pth",
        .remark = "",
        .used_by = "clipiqa+",
    },
    WeightFile{
        .file = "DISTS_weights-f5e65c96.pth",
        .bytes = 12'288,
        .sha256 = "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        .licence = "MIT, (c) 2020 Keyan Ding",
        .address = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
                   "DISTS_weights-f5e65c96.pth",
        .remark = "",
        .used_by = "dists",
    },
    WeightFile{
        .file = "LPIPS_v0.1_alex-df73285e.pth",
        .bytes = 6'009,
        .sha256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        .licence = "BSD-2-Clause, (c) 2018 Richard Zhang and others",
        .address = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
                   "LPIPS_v0.1_alex-df73285e.pth",
        .remark = "",
        .used_by = "lpips-alex",
    },
    WeightFile{
        .file = "LPIPS_v0.1_vgg-a78928a0.pth",
        .bytes = 7'289,
        .sha256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        .licence = "BSD-2-Clause, (c) 2018 Richard Zhang and others",
        .address = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
                   "LPIPS_v0.1_vgg-a78928a0.pth",
        .remark = "",
        .used_by = "lpips-vgg",
    },
    WeightFile{
        .file = "MANIQA_PIPAL-ae6d356b.pth",
        .bytes = 543'300'000,
        .sha256 = "ae6d356b",
        .licence = "Apache-2.0, (c) the authors of MANIQA",
        .address = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
                   "MANIQA_PIPAL-ae6d356b.pth",
        .remark = "",
        .used_by = "maniqa-pipal",
    },
    WeightFile{
        .file = "RN50.pt",
        .bytes = 255'400'000,
        .sha256 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
        .licence = "MIT, (c) 2021 OpenAI",
        .address = "https://openaipublic.azureedge.net/clip/models/"
                   "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
        .remark = "",
        .used_by = "clipiqa clipiqa+",
    },
    WeightFile{
        .file = "RealESRGAN_x4plus.safetensors",
        .bytes = 33'487'084,
        .sha256 = "8c34469c1a2390b9d05c04792320b293278d4b55c3552ed3d3833d6948dbf845",
        .licence = real_esrgan_licence,
        .address = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.0/"
                   "RealESRGAN_x4plus.pth",
        .remark = "convolution weights as float16, from the ncnn copy of that release",
        .used_by = "realesrgan-x4plus",
    },
    WeightFile{
        .file = "alexnet-owt-7be5be79.pth",
        .bytes = 244'400'000,
        .sha256 = "7be5be79",
        .licence = "BSD-3-Clause, torchvision",
        .address = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        .remark = "",
        .used_by = "lpips-alex",
    },
    WeightFile{
        .file = "musiq_ava_ckpt-e8d3f067.pth",
        .bytes = 108'600'000,
        .sha256 = "e8d3f067",
        .licence = "Apache-2.0, Google Research",
        .address = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
                   "musiq_ava_ckpt-e8d3f067.pth",
        .remark = "",
        .used_by = "musiq-ava",
    },
    WeightFile{
        .file = "musiq_koniq_ckpt-e95806b9.pth",
        .bytes = 108'600'000,
        .sha256 = "e95806b9",
        .licence = "Apache-2.0, Google Research",
        .address = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
                   "musiq_koniq_ckpt-e95806b9.pth",
        .remark = "",
        .used_by = "musiq",
    },
    WeightFile{
        .file = "musiq_paq2piq_ckpt-364c0c84.pth",
        .bytes = 108'600'000,
        .sha256 = "364c0c84",
        .licence = "Apache-2.0, Google Research",
        .address = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
                   "musiq_paq2piq_ckpt-364c0c84.pth",
        .remark = "",
        .used_by = "musiq-paq2piq",
    },
    WeightFile{
        .file = "musiq_spaq_ckpt-358bb6af.pth",
        .bytes = 108'600'000,
        .sha256 = "358bb6af",
        .licence = "Apache-2.0, Google Research",
        .address = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
                   "musiq_spaq_ckpt-358bb6af.pth",
        .remark = "",
        .used_by = "musiq-spaq",
    },
    WeightFile{
        .file = "osediff",
        .bytes = 18'000'000,
        .sha256 = "",
        .licence = "Apache-2.0, (c) the authors of OSEDiff",
        .address = "https://github.com/cswry/OSEDiff",
        .remark = "its file osediff.pkl",
        .used_by = "osediff",
        .folder_option = "--model",
    },
    WeightFile{
        .file = "pt_inception-2015-12-05-6726825d.pth",
        .bytes = 95'600'000,
        .sha256 = "6726825d",
        .licence = "Apache-2.0, from the TensorFlow authors' graph",
        .address = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                   "pt_inception-2015-12-05-6726825d.pth",
        .remark = "",
        .used_by = "fid",
    },
    WeightFile{
        .file = "realesr-animevideov3.safetensors",
        .bytes = 2'490'336,
        .sha256 = "9b4513320098404f98c29366c34fb02d1bacfeb2113b895fc9624f01066bb6d6",
        .licence = real_esrgan_licence,
        .address = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.2.5.0/"
                   "realesr-animevideov3.pth",
        .remark = "convolution weights rounded to float16, from the ncnn copy of that release",
        .used_by = "realesr-animevideov3",
    },
    WeightFile{
        .file = "realesr-general-wdn-x4v3.safetensors",
        .bytes = 4'861'720,
        .sha256 = "74d75939f4dc7c44ad174085763c2178484d745de65ec90de4826fa9e78f362e",
        .licence = real_esrgan_licence,
        .address = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.2.5.0/"
                   "realesr-general-wdn-x4v3.pth",
        .remark = "convolution weights rounded to float16, from the ncnn copy of that release",
        .used_by = "realesr-general-x4v3",
    },
    WeightFile{
        .file = "realesr-general-x4v3.safetensors",
        .bytes = 4'861'744,
        .sha256 = "27c552fcd51641887b3752c7026249ab1e7720dca5a6416247cfa532f66a2e12",
        .licence = real_esrgan_licence,
        .address = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.2.5.0/"
                   "realesr-general-x4v3.pth",
        .remark = "convolution weights rounded to float16, from the ncnn copy of that release",
        .used_by = "realesr-general-x4v3",
    },
    WeightFile{
        .file = "sd2-1-base",
        .bytes = 5'160'000'000,
        .sha256 = "",
        .licence = "CreativeML Open RAIL++-M, Stability AI",
        .address = "https://huggingface.co/stabilityai/stable-diffusion-2-1-base",
        .remark = "its folders unet, vae, text_encoder, tokenizer, scheduler",
        .used_by = "osediff",
        .folder_option = "--base",
    },
    of_demonstration("sdd-demonstration/prompt.safetensors", 5'016,
                     "cb9b799dc34f3df85e06fdbafb741aeef53078e2dcc9aa8d6bc4562f739141a5"),
    of_demonstration("sdd-demonstration/unet.safetensors", 1'422'232,
                     "57b43bc97f11af1bf3e254bb757a2314936cb1a30aaf4d9e927b8cb05ae7967d"),
    of_demonstration("sdd-demonstration/vae.safetensors", 1'244'446,
                     "9b9461800547b70e9b5a3c50522847e494430ab5b47d35652478664a4c57e1ff"),
    WeightFile{
        .file = "vgg16-397923af.pth",
        .bytes = 553'400'000,
        .sha256 = "397923af",
        .licence = "BSD-3-Clause, torchvision",
        .address = "https://download.pytorch.org/models/vgg16-397923af.pth",
        .remark = "",
        .used_by = "lpips-vgg dists",
    },
};

fs::path installed_weights_folder() {
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

fs::path folder_or_default(const fs::path& folder) {
    return folder.empty() ? default_weights_folder() : folder;
}

std::string size_text(std::uint64_t bytes) {
    const auto size = static_cast<double>(bytes);
    return bytes < 100'000         ? fmt::format("{:.0f} kB", size / 1e3)
           : bytes < 1'000'000'000 ? fmt::format("{:.1f} MB", size / 1e6)
                                   : fmt::format("{:.1f} GB", size / 1e9);
}

/// Where the file lies: in the folder, else in the installation's own, which holds what comes
/// with the project; a folder of the user's need not repeat that. Empty when in neither.
fs::path place_of(std::string_view file, const fs::path& folder) {
    const auto record = std::find_if(files.begin(), files.end(),
                                     [&](const WeightFile& w) { return w.file == file; });
    const bool whole_folder = record != files.end() && !record->folder_option.empty();
    std::error_code ignored;
    for (const fs::path& place : {folder_or_default(folder), installed_weights_folder()}) {
        if (whole_folder ? fs::is_directory(place / file, ignored)
                         : fs::is_regular_file(place / file, ignored)) {
            return place / file;
        }
    }
    return {};
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
    return installed_weights_folder();
}

bool have_weights(std::string_view file, const fs::path& folder) {
    return !place_of(file, folder).empty();
}

std::string how_to_get_weights(std::string_view file, const fs::path& folder) {
    const WeightFile& w = known_weight(file);
    const bool whole_folder = !w.folder_option.empty();
    const std::string from =
        w.address.empty() ? ", a part of this project," : fmt::format(" from {}", w.address);
    return fmt::format("{} ({}{}{}, licence {}){}{} belongs into {}; put it there or name {}",
                       w.file, whole_folder ? "a folder, " : "",
                       w.sha256.size() < 64 ? "about " : "", size_text(w.bytes), w.licence, from,
                       w.remark.empty() ? "" : fmt::format(" ({})", w.remark),
                       folder_or_default(folder).string(),
                       whole_folder ? fmt::format("another with {}", w.folder_option)
                                    : "its folder with --weights");
}

FoundWeights find_weights(std::string_view file, const WeightOptions& options) {
    const WeightFile& w = known_weight(file);
    FoundWeights found{.path = place_of(file, options.weights), .sha256 = {}, .verified = false};
    require(!found.path.empty(), "a weight file is missing: {}",
            how_to_get_weights(file, options.weights));
    if (!w.folder_option.empty()) return found;
    found.sha256 = sha256_of_file(found.path);
    found.verified = !w.sha256.empty() && found.sha256.starts_with(w.sha256);
    require(found.verified || options.unverified_weights || w.sha256.empty(),
            "{} is not the file we know (SHA-256 {}, expected {}): fetch it again, or accept it "
            "with --unverified-weights",
            found.path.string(), found.sha256, w.sha256);
    return found;
}

}  // namespace ultrasr
