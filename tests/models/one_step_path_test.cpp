// The whole way from an LR picture to a restored one, against OSEDiff's steps done by diffusers,
// transformers, peft and Pillow (tests/golden/make_one_step.py).
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/image.h"
#include "data/tensor/named_tensors.h"
#include "models/diffusion_method.h"
#include "models/text/tokenizer.h"
#include "tests/metrics/generated_weights.h"
#include "tests/models/one_step_goldens.h"
#include "tests/one_step_student.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

// one_step_models.md 7.3: 1e-4 at the end. Rounding alone (float32 against float64) moves z and
// pred by 2e-6 and the decoder's output by 2e-5.
constexpr double latent_tolerance = 2e-5, end_tolerance = 1e-4;

/// The LR picture that the golden files state.
Image lr_picture(PixelSize size) {
    Image image(size);
    for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
            for (int c = 0; c < 3; ++c) {
                const int level = (37 * c + 11 * y + 7 * x + 3 * x * y) % 64 * 255 / 63;
                image.row_(y)[3 * x + c] = static_cast<float>(level) / 255.0F;
            }
        }
    }
    return image;
}

int level_at(const Image& image, std::size_t i) {
    const auto row = static_cast<std::size_t>(3 * image.width());
    return static_cast<int>(std::lround(255.0F * image.row(static_cast<int>(i / row))[i % row]));
}

std::size_t bytes_of(const Image& image) {
    return 3 * static_cast<std::size_t>(image.width()) * static_cast<std::size_t>(image.height());
}

PixelSize size_from(const Json& pair) { return {pair.at(0).get<int>(), pair.at(1).get<int>()}; }

/// A case as the method takes it.
struct PathCase {
    explicit PathCase(const Json& c)
        : name(c.at("name")),
          official(c.at("mode") == "osediff"),
          lr(lr_picture(size_from(c.at("lr")))),
          recipe{.process_size = c.value("process_size", 0)} {
        DiffusionOptions& d = options.diffusion;
        d.parity = official;
        d.prompt = c.at("prompt").get<std::string>();
        d.latent = c.at("latent") == "mean" ? LatentChoice::mean : LatentChoice::sample;
        const std::string fix = c.at("color_fix");
        d.color_fix = fix == "adain"     ? ColorFix::adain
                      : fix == "wavelet" ? ColorFix::wavelet
                                         : ColorFix::none;
        options.tile = c.at("tile");
        options.tile_pad = c.at("overlap");
        recipe.noise = [](at::IntArrayRef shape, const std::string& stem) {
            return test::generated_tensor("input." + stem + ".noise", shape);
        };
        request.stem = name;
        request.scale = {c.at("scale").get<double>()};
        const auto grown = [&](int side) {
            return static_cast<int>(std::lround(request.scale.ratio * side));
        };
        request.target = c.contains("target") ? size_from(c.at("target"))
                                              : PixelSize{grown(lr.width()), grown(lr.height())};
    }

    std::string name;
    bool official;
    Image lr;
    DiffusionRecipe recipe;
    MethodOptions options;
    RestoreRequest request;
};

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("enlargements: every size as OSEDiff's script makes it, its roundings included") {
        for (const Json& s : test::one_step_golden("path.json").at("sizes")) {
            const PixelSize lr{s.at(0).get<int>(), s.at(1).get<int>()};
            const int scale = s.at(2);
            const DiffusionRecipe recipe{.process_size = s.at(3).get<int>()};
            CAPTURE(s.dump());
            const RestoreRequest request{"a", {1, 1}, {static_cast<double>(scale)}};
            const auto steps = enlargements(lr, request, recipe, true);
            REQUIRE(steps.size() >= 2);
            const PixelSize enlarged = steps.size() == 3 ? steps[0].size : lr;
            CHECK(enlarged == size_from(s.at(4)));
            CHECK(steps[steps.size() - 2].size == size_from(s.at(5)));
            CHECK(steps.back().size == size_from(s.at(6)));
            CHECK(steps.back().kernel == Kernel::lanczos3);
        }
    }

    TEST_CASE("enlarged_for_diffusion: the bytes of Pillow's pictures") {
        for (const Json& golden : test::one_step_golden("path.json").at("cases")) {
            const PathCase c(golden);
            CAPTURE(c.name);
            const Image up = enlarged_for_diffusion(c.lr, c.request, c.recipe, c.official);
            const Json& expected = golden.at("up");
            REQUIRE(up.size() ==
                    PixelSize{expected.at("width").get<int>(), expected.at("height").get<int>()});
            std::uint64_t sum = 0, weighted = 0;
            for (std::size_t i = 0; i < bytes_of(up); ++i) {
                const auto level = static_cast<std::uint64_t>(level_at(up, i));
                sum += level;
                weighted += level * (i + 1);
            }
            CHECK(sum == expected.at("sum").get<std::uint64_t>());
            CHECK(weighted % (std::uint64_t{1} << 32) ==
                  expected.at("weighted").get<std::uint64_t>());
        }
    }

    TEST_CASE("Tokenizer: the prompt's ids with the family's own tokenizer") {
        const Tokenizer tokenizer = Tokenizer::from_folder(test::one_step_family() / "tokenizer");
        const Json c = test::one_step_golden("path.json").at("cases").at(0);
        CHECK(tokenizer.encode(c.at("prompt").get<std::string>()) ==
              c.at("tokens").get<std::vector<std::int64_t>>());
    }

    TEST_CASE("diffusion methods: whole restorations as the reference makes them") {
        // Its adapters are attached, ours are merged while loading
        const NamedTensors golden = load_tensors(test::golden("one_step/path.safetensors"));
        const test::TemporaryFolder folder;
        for (const Json& g : test::one_step_golden("path.json").at("cases")) {
            PathCase c(g);
            CAPTURE(c.name);
            const at::Tensor picture = golden.at(c.name + ".picture");
            c.request.dump = folder.path() / (c.name + ".safetensors");
            if (c.official) {  // the script keeps the size that its networks like
                c.request.target = {static_cast<int>(picture.size(1)),
                                    static_cast<int>(picture.size(0))};
            }
            const MethodPtr method = make_diffusion_method(
                load_osediff(test::one_step_family(), test::golden("one_step/osediff.pkl"), {}),
                c.recipe, c.options, test::one_step_family());
            const Image sr = method->restore(c.lr, c.request);

            // What lies between
            const NamedTensors dump = load_tensors(c.request.dump);
            for (const auto& [name, tolerance] :
                 {std::pair{"z", latent_tolerance}, std::pair{"pred", latent_tolerance},
                  std::pair{"z_hr", end_tolerance}}) {
                CAPTURE(name);
                const at::Tensor theirs = golden.at(fmt::format("{}.{}", c.name, name));
                const double largest = theirs.abs().max().item<double>();
                CHECK(test::largest_difference(dump.at(name), theirs) <
                      tolerance * std::max(1.0, largest));
            }
            CHECK(test::distance_to_summary(dump.at("sr").squeeze(0), g.at("sr")) < end_tolerance);

            // The picture: float32 noise moves single bytes by one level; truncation where
            // rounding is due would move half of them
            REQUIRE(sr.size() == PixelSize{static_cast<int>(picture.size(1)),
                                           static_cast<int>(picture.size(0))});
            const auto* theirs = picture.const_data_ptr<std::uint8_t>();
            std::size_t others = 0;
            int worst = 0;
            for (std::size_t i = 0; i < bytes_of(sr); ++i) {
                const int difference = std::abs(level_at(sr, i) - theirs[i]);
                others += difference > 0 ? 1 : 0;
                worst = std::max(worst, difference);
            }
            CHECK(worst <= 1);
            CHECK(static_cast<double>(others) <=
                  std::max(4.0, 0.001 * static_cast<double>(bytes_of(sr))));
        }
    }
}
