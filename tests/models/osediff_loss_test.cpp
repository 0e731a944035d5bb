#include "models/osediff_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <vector>

#include "data/base/error.h"
#include "models/noise_schedule.h"
#include "tests/models/loss_goldens.h"
#include "tests/test.h"

using namespace ultrasr;

TEST_SUITE("golden") {
    TEST_CASE("OSEDiff: noise, clean latents, guidance and VSD with its gradient") {
        const Json golden = test::golden_json("sdd_loss.json").at("osediff");
        const test::GoldenLatents in;
        const at::Tensor alpha_bar =
            at::tensor(golden.at("alpha_bar").get<std::vector<double>>()).to(at::kFloat);
        const auto near = [&](const at::Tensor& found, const char* key) {
            return test::distance_from_golden(found, golden.at(key)) < 1.0;
        };
        CHECK(near(add_noise(in.z_s, in.noise, alpha_bar), "noisy"));
        CHECK(near(clean_from(in.z_s, in.noise, alpha_bar), "clean"));
        CHECK(near(guided(in.z_t, in.z_h, golden.at("scale")), "guided"));

        at::Tensor z = in.z_s.clone().requires_grad_(true);
        const at::Tensor loss = vsd_loss(z, in.z_t, in.z_h);
        loss.backward();
        CHECK(test::near_golden(loss, golden.at("vsd")));
        CHECK(near(z.grad(), "grad_z_hr"));
    }
}

TEST_SUITE("unit") {
    TEST_CASE("clean_from: the inverse of add_noise, and with one timestep that of NoiseSchedule") {
        const test::GoldenLatents in;
        const NoiseSchedule schedule(NoiseScheduleConfig{.clip_sample = false});
        const at::Tensor alpha_bar = at::full({3}, schedule.alphas_cumprod()[500]);
        const at::Tensor noisy = add_noise(in.z_s, in.noise, alpha_bar);
        const at::Tensor clean = clean_from(noisy, in.noise, alpha_bar);
        CHECK((clean - in.z_s).abs().max().item<double>() < 2e-5);
        const at::Tensor other = schedule.clean_latent(noisy, in.noise, 500);
        CHECK((clean - other).abs().max().item<double>() < 2e-5);
    }

    TEST_CASE("vsd_loss: only z_hr has a gradient, and it points from the real to the fake") {
        const test::GoldenLatents in;
        at::Tensor z = in.z_s.clone().requires_grad_(true);
        at::Tensor fake = in.z_t.clone().requires_grad_(true);
        at::Tensor real = in.z_h.clone().requires_grad_(true);
        vsd_loss(z, fake, real).backward();
        CHECK(!fake.grad().defined());
        CHECK(!real.grad().defined());
        CHECK((z.grad() * (fake - real)).min().item<double>() >= 0.0);
        CHECK(z.grad().abs().max().item<double>() > 0.0);
    }

    TEST_CASE("vsd_loss: a sample's weight is its own, and equal latents do not divide by 0") {
        const test::GoldenLatents in;
        // Of sample 0 alone everything is twice as far apart
        const at::Tensor twice = at::tensor({2.0F, 1.0F, 1.0F}).reshape({3, 1, 1, 1});
        at::Tensor z = in.z_s.clone().requires_grad_(true);
        vsd_loss(z, in.z_t, in.z_h).backward();
        at::Tensor far = (twice * in.z_s).requires_grad_(true);
        vsd_loss(far, twice * in.z_t, twice * in.z_h).backward();
        CHECK((far.grad() - z.grad()).abs().max().item<double>() < 1e-7);

        at::Tensor same = in.z_s.clone().requires_grad_(true);
        const at::Tensor loss = vsd_loss(same, in.z_s, in.z_s);
        loss.backward();
        CHECK(loss.item<double>() == 0.0);
        CHECK(same.grad().equal(at::zeros_like(same)));
    }

    TEST_CASE("OSEDiff losses: half precision is computed in float32, wrong shapes are our fault") {
        const test::GoldenLatents in;
        const at::Tensor z = in.z_s.to(at::kBFloat16), other = in.noise.to(at::kHalf);
        const at::Tensor alpha_bar = at::full({3}, 0.5);
        const auto f = [](const at::Tensor& x) { return x.to(at::kFloat); };
        CHECK(add_noise(z, other, alpha_bar).equal(add_noise(f(z), f(other), alpha_bar)));
        CHECK(clean_from(z, other, alpha_bar).equal(clean_from(f(z), f(other), alpha_bar)));
        CHECK(guided(z, other, 7.5).equal(guided(f(z), f(other), 7.5)));
        CHECK(vsd_loss(z, other, other).equal(vsd_loss(f(z), f(other), f(other))));

        const at::Tensor small = at::zeros({3, 4, 6, 1});
        CHECK_THROWS_AS(add_noise(in.z_s, small, alpha_bar), Error);
        CHECK_THROWS_AS(add_noise(in.z_s, in.noise, at::full({1}, 0.5)), Error);
        CHECK_THROWS_AS(add_noise(in.z_s, in.noise, at::full({3, 1}, 0.5)), Error);
        CHECK_THROWS_AS(clean_from(in.z_s, small, alpha_bar), Error);
        CHECK_THROWS_AS(guided(in.z_s, small, 1.0), Error);
        CHECK_THROWS_AS(vsd_loss(in.z_s, small, in.z_s), Error);
        CHECK_THROWS_AS(vsd_loss(in.z_s, in.z_s, small), Error);
        CHECK_THROWS_AS(vsd_loss(in.z_s, in.z_s, at::Tensor()), Error);
    }
}
