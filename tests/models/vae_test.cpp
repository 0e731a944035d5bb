#include "models/vae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/rand.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "models/layers/norm_silu.h"
#include "tests/metrics/generated_weights.h"
#include "tests/models/one_step_goldens.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

// one_step_models.md 7.3; rounding alone (float32 against float64) moves taps by 2.0e-6
constexpr double tolerance = 2e-5;

const Placement exact{.inference_only = true};

Vae golden_vae(const Json& file, const Json& golden_case, const Placement& placement,
               AdapterTable* adapters = nullptr) {
    const std::string name = golden_case.at("config");
    StateDict weights = test::generated_weights();
    return Vae(weights, VaeConfig::from_json(file.at("configs").at(name), name), placement,
               adapters);
}

/// The goldens' pictures lie in [-1,1], as the encoder is given them.
at::Tensor golden_picture(const Json& c) { return test::golden_input(c, "image") * 0.5 + 0.5; }

at::Tensor moments(const Posterior& p, const VaeConfig& config) {
    return at::cat({p.mean / config.scaling_factor + config.shift_factor, p.logvar}, 1);
}

/// Strips of that many bytes until the end of the scope.
struct StripBytes {
    explicit StripBytes(std::int64_t bytes) { set_strip_bytes(bytes); }
    ~StripBytes() { set_strip_bytes(before); }
    std::int64_t before = strip_bytes();
};

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("Vae: every module returns what diffusers' returns") {
        const Json file = test::one_step_golden("vae.json");
        for (const Json& c : file.at("cases")) {
            CAPTURE(c.at("name").get<std::string>());
            const c10::InferenceMode guard;
            const Vae vae = golden_vae(file, c, exact);
            test::Listener listener;
            const Posterior p = vae.encode(golden_picture(c), listener.taps());
            const at::Tensor z = (test::golden_input(c, "latent") - vae.config().shift_factor) *
                                 vae.config().scaling_factor;
            const at::Tensor rgb = vae.decode(z, listener.taps());
            test::check_taps(c, listener.heard, tolerance);
            if (c.at("outputs").contains("moments")) {
                CHECK(test::distance_to_values(moments(p, vae.config()),
                                               c.at("outputs").at("moments")) < tolerance);
            }
            if (c.at("outputs").contains("decoded")) {
                CHECK(test::distance_to_values(rgb * 2.0 - 1.0, c.at("outputs").at("decoded")) <
                      tolerance);
            }
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("Vae: strips give what whole maps give") {
        const Json file = test::one_step_golden("vae.json");
        for (const Json& c : file.at("cases")) {
            CAPTURE(c.at("name").get<std::string>());
            const c10::InferenceMode guard;
            const Vae vae = golden_vae(file, c, exact);
            const at::Tensor rgb = golden_picture(c), z = test::golden_input(c, "latent");
            const auto run = [&](std::int64_t bytes) {
                const StripBytes strips(bytes);
                return std::pair{vae.encode(rgb).mean, vae.decode(z)};
            };
            const auto [mean, decoded] = run(0);
            for (const std::int64_t bytes : {1, 20000, 60000}) {
                CAPTURE(bytes);
                const auto [strip_mean, strip_decoded] = run(bytes);
                // 7.3 allows 1e-4; sums in another order move by 1e-6
                CHECK(test::largest_difference(mean, strip_mean) < 1e-5);
                CHECK(test::largest_difference(decoded, strip_decoded) < 1e-5);
            }
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("Vae: sampling scales the noise by the latent's spread") {
        const c10::InferenceMode guard;
        const Json file = test::one_step_golden("vae.json");
        const Json& c = file.at("cases").at(2);
        const Vae vae = golden_vae(file, c, exact);
        const Posterior p = vae.encode(golden_picture(c));
        const at::Tensor noise = test::golden_input(c, "latent");
        const at::Tensor m = moments(p, vae.config());
        const at::Tensor mean = m.narrow(1, 0, 4), logvar = m.narrow(1, 4, 4);
        const at::Tensor expected = 0.18215 * (mean + (0.5 * logvar).exp() * noise);
        CHECK(test::largest_difference(p.sample(noise), expected) < 1e-5);
        CHECK(test::largest_difference(p.sample(noise * 0.0), p.mean) == 0.0);
    }

    TEST_CASE("Vae: layers that carry adapters compute the same, with gradients through G") {
        const Json file = test::one_step_golden("vae.json");
        const Json& c = file.at("cases").at(2);
        AdapterTable table;
        const Vae vae = golden_vae(file, c, {}, &table);
        CHECK(table.contains("quant_conv"));
        CHECK(table.contains("encoder.mid_block.attentions.0.to_out.0"));
        at::Tensor z = test::golden_input(c, "latent") * 0.18215;
        z.requires_grad_(true);
        const at::Tensor rgb = vae.decode(z);
        CHECK(rgb.requires_grad());
        CHECK(test::distance_to_values(rgb.detach() * 2.0 - 1.0, c.at("outputs").at("decoded")) <
              tolerance);
    }

    TEST_CASE("Vae: bf16 stays above 35 dB") {
        const c10::InferenceMode guard;
        const Json file = test::one_step_golden("vae.json");
        for (const Json& c : file.at("cases")) {
            Placement half = place(ComputeOptions{.precision = Precision::bf16});
            half.inference_only = true;
            const at::Tensor z = test::golden_input(c, "latent");
            const at::Tensor full = golden_vae(file, c, exact).decode(z);
            const at::Tensor fast = golden_vae(file, c, half).decode(z);
            const double mse = (full - fast).pow(2).mean().item<double>();
            CHECK(10.0 * std::log10(1.0 / mse) > 35.0);  // 7.3
            CHECK(mse > 1e-9);                           // it did compute in bf16
        }
    }

    TEST_CASE("Vae: pictures and latents that do not fit are an error") {
        const Json file = test::one_step_golden("vae.json");
        const Vae vae = golden_vae(file, file.at("cases").at(0), exact);
        CHECK(test::contains(test::sentence_of(Fault::input,
                                               [&] {
                                                   vae.encode(at::rand({1, 3, 64, 60}));
                                               }),
                             "multiples of 8"));
        CHECK(test::contains(test::sentence_of(Fault::input,
                                               [&] {
                                                   vae.decode(at::rand({1, 16, 8, 8}));
                                               }),
                             "4 channels"));
        Json config = file.at("configs").at("tiny");
        config["down_block_types"] = Json::array({"AttnDownEncoderBlock2D", "DownEncoderBlock2D",
                                                  "DownEncoderBlock2D", "DownEncoderBlock2D"});
        CHECK(test::contains(
            test::sentence_of(Fault::input,
                              [&] { VaeConfig::from_json(config, "vae/config.json"); }),
            "down_block_types"));
        // The official file names no scaling_factor
        config = file.at("configs").at("tiny");
        config.erase("scaling_factor");
        CHECK(VaeConfig::from_json(config, "c").scaling_factor == 0.18215);
    }
}
