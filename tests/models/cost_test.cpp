#include "models/cost.h"

#include <map>

#include <fmt/format.h>

#include "models/method.h"
#include "models/text/text_encoder.h"
#include "models/unet.h"
#include "models/vae.h"
#include "tests/models/nets.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

double giga(std::int64_t macs) { return static_cast<double>(macs) / 1e9; }

std::int64_t parameters_of(const Shapes& tensors) {
    std::int64_t sum = 0;
    for (const auto& [name, shape] : tensors) {
        std::int64_t n = 1;
        for (const std::int64_t side : shape) n *= side;
        sum += n;
    }
    return sum;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("tensor_shapes: tensors and parameters of Stable Diffusion 2.1-base") {
        const Shapes unet = UNet::tensor_shapes({}), vae = Vae::tensor_shapes({});
        CHECK(unet.size() == 686);
        CHECK(parameters_of(unet) == 865'910'724);
        CHECK(vae.size() == 248);
        CHECK(parameters_of(vae) == 83'653'863);
        std::map<std::string, std::int64_t> tensors;
        for (const auto& [name, shape] : vae) ++tensors[name.substr(0, name.find('.'))];
        CHECK(tensors["encoder"] == 106);
        CHECK(tensors["decoder"] == 138);
    }

    // one_step_models.md 6.1 prints whole GMAC above 100 and three digits below
    TEST_CASE("unet_cost: Stable Diffusion 2.1-base at 64 x 64 latents") {
        const PartCost c = unet_cost({}, 64, 64, 77);
        CHECK(c.parameters == 865'910'724);
        CHECK(giga(c.convolutions) == doctest::Approx(209).epsilon(0.0025));
        CHECK(giga(c.linear) == doctest::Approx(128).epsilon(0.004));
        CHECK(giga(c.self_attention) == doctest::Approx(61).epsilon(0.009));
        CHECK(giga(c.cross_attention) == doctest::Approx(1.8).epsilon(0.03));
        CHECK(giga(c.context) == doctest::Approx(2.0).epsilon(0.03));
        CHECK(giga(c.macs()) == doctest::Approx(402).epsilon(0.0013));
        CHECK(c.layers() == c.macs() - c.self_attention - c.cross_attention);
        CHECK(giga(unet_cost({}, 96, 96, 77).macs()) == doctest::Approx(1075).epsilon(0.001));
        CHECK(giga(unet_cost({}, 128, 128, 77).macs()) == doctest::Approx(2338).epsilon(0.001));
    }

    TEST_CASE("unet_cost: odd sides round up on the way down") {
        UNetConfig small;
        small.block_out_channels = {32, 32};
        small.down_attention = {false, false};
        small.up_attention = {false, false};
        small.heads = {2, 2};
        small.layers_per_block = {1, 1};
        const auto convolutions = [&](std::int64_t h, std::int64_t w) {
            return unet_cost(small, h, w, 77).convolutions;
        };
        // The lower level of 5 x 3 is that of 6 x 4; only the upper one has fewer pixels
        const std::int64_t lower = 4 * convolutions(1, 1) - convolutions(2, 2);
        REQUIRE(lower > 0);
        CHECK(convolutions(6, 4) - convolutions(5, 3) ==
              (24 - 15) * (convolutions(1, 1) - lower / 3));
    }

    TEST_CASE("vae costs: Stable Diffusion 2.1-base at 512 x 512 pixels") {
        const PartCost encoder = vae_encoder_cost({}, 512, 512);
        const PartCost decoder = vae_decoder_cost({}, 512, 512);
        CHECK(encoder.parameters == 34'163'592 + 72);
        CHECK(decoder.parameters == 49'490'179 + 20);
        CHECK(encoder.parameters + decoder.parameters == 83'653'863);
        CHECK(giga(encoder.macs()) == doctest::Approx(558).epsilon(0.001));
        CHECK(giga(decoder.macs()) == doctest::Approx(1257).epsilon(0.0005));
        CHECK(giga(encoder.convolutions) == doctest::Approx(537).epsilon(0.001));
        CHECK(giga(decoder.convolutions) == doctest::Approx(1236).epsilon(0.0005));
        CHECK(giga(encoder.linear + encoder.self_attention) ==
              doctest::Approx(21.5).epsilon(0.003));
        // All of it
        CHECK(giga(encoder.macs() + unet_cost({}, 64, 64, 77).macs() + decoder.macs()) ==
              doctest::Approx(2217).epsilon(0.0005));
    }

    TEST_CASE("text_encoder_cost: Stable Diffusion 2.1-base") {
        const PartCost c = text_encoder_cost({});
        CHECK(c.parameters == 340'387'840);
        CHECK(giga(c.macs()) == doctest::Approx(22.6).epsilon(0.003));
    }

    TEST_CASE("Cost: parts add up; what is done once is not a picture's") {
        Cost cost{{{.name = "text", .parameters = 5, .linear = 100, .once = true},
                   {.name = "unet", .parameters = 7, .linear = 10, .self_attention = 3}}};
        CHECK(cost.parameters() == 12);
        CHECK(cost.macs() == 13);
        CHECK(cost.layers() == 10);
    }

    TEST_CASE("Method::cost: GANs by their policy, interpolation nothing, finished pictures none") {
        // SRVGGNetCompact with 16 + 2 convolutions of 64 channels: 3 -> 64, 16 x 64 -> 64, 64 -> 48
        const std::int64_t a_pixel = 9 * (3 * 64 + 16 * 64 * 64 + 64 * 48);
        const auto cost_of = [](const char* name, PixelSize lr, PixelSize target,
                                ScalePolicy policy) {
            return parse_method(name)
                .info->make(test::with([&](MethodOptions& o) { o.scale_policy = policy; }), "")
                ->cost(lr, {"a", target, {4.0}});
        };
        const auto anime = [&](PixelSize lr, PixelSize target, ScalePolicy policy) {
            return *cost_of("realesr-animevideov3", lr, target, policy);
        };
        const Cost post = anime({10, 6}, {40, 24}, ScalePolicy::post);
        CHECK(post.parameters() == a_pixel + 17 * 64 + 48 + 17 * 64);
        CHECK(post.macs() == 60 * a_pixel);
        CHECK(post.layers() == post.macs());
        CHECK(anime({10, 6}, {80, 48}, ScalePolicy::pre).macs() == 4 * 60 * a_pixel);
        CHECK(anime({10, 6}, {80, 48}, ScalePolicy::cascade).macs() == 17 * 60 * a_pixel);
        const auto bicubic = cost_of("bicubic", {10, 6}, {40, 24}, ScalePolicy::post);
        REQUIRE(bicubic.has_value());
        CHECK(bicubic->parameters() == 0);
        CHECK(bicubic->parts.empty());
    }
}
