#include "models/noise_schedule.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "data/base/error.h"
#include "tests/models/formula_picture.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

/// The formulas of tests/golden/make_pictures.py: exact in float32.
at::Tensor numbers(int factor, int offset, int modulus) {
    at::Tensor result = at::empty({2, 4, 3, 5});
    float* p = result.mutable_data_ptr<float>();
    for (int i = 0; i < 120; ++i) {
        const int level = (factor * i + offset) % modulus - modulus / 2;
        p[i] = static_cast<float>(level) / 32.0F;
    }
    return result;
}

at::Tensor latent() { return numbers(37, 11, 101); }
at::Tensor prediction() { return numbers(53, 29, 97); }

/// scheduler_config.json of SD2.1-base.
Json sd21() {
    return Json{
        {"num_train_timesteps", 1000}, {"beta_schedule", "scaled_linear"}, {"beta_start", 0.00085},
        {"beta_end", 0.012},           {"prediction_type", "epsilon"},     {"clip_sample", false},
        {"steps_offset", 1},           {"trained_betas", nullptr}};
}

std::string complaint(const char* key, const Json& value) {
    Json config = sd21();
    config[key] = value;
    try {
        NoiseScheduleConfig::from_json(config, "scheduler/scheduler_config.json");
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::input);
        return error.sentence();
    }
    return "";
}

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("NoiseSchedule: constants and clean latents of diffusers' DDPMScheduler") {
        const Json golden = test::golden_json("models_noise_schedule.json");
        CHECK(golden.at("cases").size() == 5);
        for (const Json& c : golden.at("cases")) {
            CAPTURE(c.at("config").dump());
            const NoiseSchedule schedule(NoiseScheduleConfig::from_json(c.at("config"), "config"));
            REQUIRE(schedule.alphas_cumprod().size() == 1000);
            CHECK(c.at("steps").size() == 5);
            for (const Json& step : c.at("steps")) {
                const int t = step.at("t");
                CAPTURE(t);
                const double alpha_bar = step.at("alpha_bar");
                const double ours = schedule.alphas_cumprod()[static_cast<std::size_t>(t)];
                CHECK(std::abs(ours / alpha_bar - 1.0) < 1e-6);  // float32 in the same order

                const at::Tensor clean = schedule.clean_latent(latent(), prediction(), t);
                const float* values = clean.const_data_ptr<float>();
                const auto expected = test::floats_from_hex(step.at("clean"));
                REQUIRE(expected.size() == 40);
                float worst = 0.0F;
                float largest = 0.0F;
                for (std::size_t i = 0; i < expected.size(); ++i) {
                    worst = std::max(worst, std::abs(values[3 * i] - expected[i]));
                    largest = std::max(largest, std::abs(expected[i]));
                }
                CHECK(worst <= 1e-6F * largest);  // three float32 roundings
            }
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("NoiseSchedule: alpha_bar of SD2.1 is the float32 one, not the double one") {
        const NoiseSchedule schedule(NoiseScheduleConfig::from_json(sd21(), "config"));
        const auto& alpha_bar = schedule.alphas_cumprod();
        CHECK(std::abs(alpha_bar[0] / 0.99915 - 1.0) < 1e-7);
        CHECK(std::abs(alpha_bar[499] / 0.2776696505 - 1.0) < 1e-6);
        CHECK(std::abs(alpha_bar[999] - 0.0046600951) < 5e-10);  // 0.0046600985 in double
        CHECK(std::is_sorted(alpha_bar.rbegin(), alpha_bar.rend()));
    }

    TEST_CASE("NoiseScheduleConfig: absent keys and null take diffusers' defaults") {
        for (const Json& config : {Json::object(), Json{{"beta_end", nullptr}, {"unknown", 3}}}) {
            const auto read = NoiseScheduleConfig::from_json(config, "config");
            CHECK(read.num_train_timesteps == 1000);
            CHECK(read.beta_schedule == BetaSchedule::linear);
            CHECK(read.beta_start == 0.0001);
            CHECK(read.beta_end == 0.02);
            CHECK(read.prediction_type == Prediction::epsilon);
            CHECK(read.clip_sample);
            CHECK(read.clip_sample_range == 1.0);
        }
    }

    TEST_CASE("NoiseScheduleConfig: what is not supported is named with file, key and value") {
        CHECK(complaint("beta_schedule", "squaredcos_cap_v2") ==
              "scheduler/scheduler_config.json: \"beta_schedule\" is \"squaredcos_cap_v2\"; "
              "supported: scaled_linear, linear");
        CHECK(complaint("prediction_type", "sample") ==
              "scheduler/scheduler_config.json: \"prediction_type\" is \"sample\"; supported: "
              "epsilon, v_prediction");
        CHECK(complaint("beta_start", 0.0) ==
              "scheduler/scheduler_config.json: \"beta_start\" is 0; supported: numbers between 0 "
              "and 1");
        const auto names = [](const char* key, const Json& value) {
            const std::string text = complaint(key, value);
            return text.starts_with("scheduler/scheduler_config.json: ") &&
                   text.find(std::string("\"") + key + "\" is " + value.dump()) != text.npos;
        };
        CHECK(names("trained_betas", Json::array({0.1})));
        for (const char* key : {"thresholding", "rescale_betas_zero_snr"}) {
            CHECK(names(key, true));
            CHECK(complaint(key, false).empty());
        }
        CHECK(names("num_train_timesteps", 0));
        CHECK(names("num_train_timesteps", 10.5));
        CHECK(names("num_train_timesteps", "1000"));
        CHECK(names("beta_end", 1));
        CHECK(names("beta_schedule", 3));
        CHECK(names("clip_sample", "no"));
        CHECK(names("clip_sample_range", -1));
        CHECK_THROWS_AS(NoiseScheduleConfig::from_json(Json::array(), "config"), Error);
        CHECK_THROWS_AS(NoiseSchedule(NoiseScheduleConfig{.num_train_timesteps = 0}), Error);
        CHECK_THROWS_AS(NoiseSchedule(NoiseScheduleConfig{.beta_end = 1.5}), Error);
    }

    TEST_CASE("NoiseSchedule: half precision enters the formula unrounded and leaves as float32") {
        for (const char* type : {"epsilon", "v_prediction"}) {
            Json config = sd21();
            config["prediction_type"] = type;
            const NoiseSchedule schedule(NoiseScheduleConfig::from_json(config, "config"));
            const at::Tensor z = latent().to(at::kBFloat16), p = prediction().to(at::kHalf);
            const at::Tensor clean = schedule.clean_latent(z, p, 999);
            CHECK((clean.scalar_type() == at::kFloat));
            CHECK(clean.equal(schedule.clean_latent(z.to(at::kFloat), p.to(at::kFloat), 999)));
        }
    }

    TEST_CASE("NoiseSchedule: the gradient is the formula's") {
        const NoiseSchedule schedule(NoiseScheduleConfig::from_json(sd21(), "config"));
        at::Tensor z = latent().requires_grad_(true), p = prediction().requires_grad_(true);
        schedule.clean_latent(z, p, 999).sum().backward();
        CHECK(z.grad().min().item<float>() == doctest::Approx(14.6488189).epsilon(1e-6));
        CHECK(p.grad().max().item<float>() == doctest::Approx(-14.6146466).epsilon(1e-6));
    }

    TEST_CASE("NoiseSchedule: timesteps it does not have and unequal shapes are our fault") {
        const NoiseSchedule schedule(NoiseScheduleConfig{});
        for (const int t : {-1, 1000}) {
            CHECK_THROWS_AS(schedule.clean_latent(latent(), prediction(), t), Error);
        }
        CHECK_THROWS_AS(schedule.clean_latent(latent(), at::zeros({2, 4, 5, 3}), 999), Error);
    }
}
