#include "models/sdd_loss.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/roll.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "data/base/error.h"
#include "tests/models/loss_goldens.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

template <class Enum>
Enum named(const Json& name, const std::vector<std::string>& names) {
    const auto found = std::find(names.begin(), names.end(), name.get<std::string>());
    REQUIRE(found != names.end());
    return static_cast<Enum>(found - names.begin());
}

at::Tensor pairs(const std::vector<std::int64_t>& j) { return at::tensor(j, at::kLong); }

/// pictures() of make_sdd_loss.py.
struct Pictures {
    at::Tensor y_s, y_t, y, samples, theta_1, theta_3;

    Pictures() {
        const std::array<std::int64_t, 4> shape{3, 3, 24, 40};
        const auto teacher = [](auto n, auto c, auto y_, auto x) {
            return static_cast<double>(((n + 2) * x + 3 * y_ * (c + 1) + n * x * y_) % 129 - 64) /
                   64.0;
        };
        y_t = test::by_formula(shape, teacher);
        y = test::by_formula(shape, [&](auto n, auto c, auto y_, auto x) {
            const double bump =
                static_cast<double>((5 * x + 7 * y_ + 3 * c + x * y_) % 33 - 16) / 32.0;
            const bool wrong = n == 0 ? x >= 20 : n == 1 || (x < 6 && y_ < 4);
            return std::clamp(teacher(n, c, y_, x) + (wrong ? bump : 0.0), -1.0, 1.0);
        });
        y_s = test::by_formula(shape, [&](auto n, auto c, auto y_, auto x) {
            return teacher(n, c, y_, x) +
                   static_cast<double>((11 * x + 5 * y_ + 13 * c + 3 * x * y_ + n) % 41 - 20) /
                       64.0;
        });
        std::vector<at::Tensor> drawn;
        for (int k = 0; k < 4; ++k) {
            drawn.push_back(test::by_formula(shape, [&](auto n, auto c, auto y_, auto x) {
                const auto level = (3 * x + 5 * y_ + k * (x + 2 * y_ + c) + n * k) % 17 - 8;
                return teacher(n, c, y_, x) + static_cast<double>((k + 1) * level) / 128.0;
            }));
        }
        samples = at::stack(drawn);
        const auto weight = [](auto n, auto c, auto y_, auto x) {
            return static_cast<double>((7 * x + 5 * y_ + 11 * n + 17 * c) % 65) / 64.0;
        };
        theta_3 = test::by_formula(shape, weight);
        theta_1 = test::by_formula({3, 1, 24, 40}, weight);
    }
};

const std::vector<std::string> second_terms{"ratio", "as_printed", "hinge", "off"};
const std::vector<std::string> distances{"rms", "l2", "l2_per_pixel", "cosine"};
const std::vector<std::string> sources{"output", "detail", "error", "posterior_var"};
const std::vector<std::string> norms{"l1_space", "l1_channel", "l1_space_max", "none_sigmoid"};
const std::vector<std::string> downs{"area", "bilinear", "max"};
const std::vector<std::string> picture_norms{"rms", "mse", "l1", "l2_sum"};

/// The gradient of the metric loss in z_s.
at::Tensor anchor_gradient(const test::GoldenLatents& in, const MetricLossOptions& options) {
    at::Tensor z = in.z_s.clone().requires_grad_(true);
    metric_loss(z, in.z_t, in.z_h, pairs({2, 0, 1}), options).loss.backward();
    return z.grad();
}

double norm_of(const at::Tensor& x) {
    return x.to(at::kDouble).square().sum().sqrt().item<double>();
}

/// Runs `compute` with one thread and with four.
template <class Compute>
bool same_with_any_threads(const Compute& compute) {
    const int before = at::get_num_threads();
    at::set_num_threads(1);
    const at::Tensor one = compute();
    at::set_num_threads(4);
    const at::Tensor four = compute();
    at::set_num_threads(before);
    return one.equal(four);
}

template <class Call>
Fault fault_of(const Call& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.fault();
    }
    FAIL("nothing was thrown");
    return Fault::storage;
}

}  // namespace

TEST_SUITE("golden") {
    // 1e-5 of the largest element: float32 against float64, which are 3e-7 apart at worst
    TEST_CASE("metric_loss: Eq. 7 and its gradients, every second term and every distance") {
        const test::GoldenLatents in;
        const Json cases = test::golden_json("sdd_loss.json").at("metric");
        CHECK(cases.size() == 24);
        for (const Json& c : cases) {
            CAPTURE(c.dump().substr(0, 150));
            MetricLossOptions options;
            options.neg2 = named<SecondTerm>(c.at("neg2"), second_terms);
            options.dist = named<LatentDistance>(c.at("dist"), distances);
            options.lambda = c.at("lambda");
            options.epsilon = c.at("epsilon");
            options.margin = c.at("margin");
            options.detach_neg = c.at("detach_neg");
            at::Tensor z_s = in.z_s.clone().requires_grad_(true);
            at::Tensor z_t = in.z_t.clone().requires_grad_(true);
            at::Tensor z_h = in.z_h.clone().requires_grad_(true);
            const MetricLoss found = metric_loss(
                z_s, z_t, z_h, pairs(c.at("j").get<std::vector<std::int64_t>>()), options);
            CHECK(test::near_golden(found.loss, c.at("loss")));
            const std::map<std::string, at::Tensor> logged{{"positive", found.positive},
                                                           {"severe", found.severe},
                                                           {"unrelated", found.unrelated}};
            for (const auto& [key, values] : logged) {
                CAPTURE(key);
                CHECK((values.sizes() == at::IntArrayRef{3}));
                CHECK(!values.requires_grad());
                for (std::int64_t i = 0; i < 3; ++i) {
                    CHECK(test::near_golden(values[i], c.at(key).at(static_cast<std::size_t>(i))));
                }
            }

            found.loss.backward();
            for (const auto& [key, gradient] :
                 {std::pair{"grad_z_s", z_s.grad()}, std::pair{"grad_z_t", z_t.grad()},
                  std::pair{"grad_z_h", z_h.grad()}}) {
                CAPTURE(key);
                REQUIRE(gradient.defined() == !c.at(key).is_null());
                if (!gradient.defined()) continue;
                CHECK(test::distance_from_golden(gradient, c.at(key)) < 1.0);
            }
        }
    }

    TEST_CASE("uncertainty_map: Eq. 8, every source and every normalisation") {
        const Pictures in;
        const Json cases = test::golden_json("sdd_loss.json").at("theta");
        CHECK(cases.size() == 33);
        for (const Json& c : cases) {
            CAPTURE(c.dump().substr(0, 100));
            ThetaOptions options;
            options.source = named<ThetaSource>(c.at("source"), sources);
            options.norm = named<ThetaNorm>(c.at("norm"), norms);
            options.per_channel = c.at("per_channel");
            options.kappa = c.at("kappa");
            const at::Tensor theta = uncertainty_map({in.y_t, in.y, in.samples}, options);
            CHECK((theta.sizes() == at::IntArrayRef{3, options.per_channel ? 3 : 1, 24, 40}));
            CHECK(test::distance_from_golden(theta, c.at("theta")) < 1.0);
            CHECK(test::near_golden(theta.mean(), c.at("mean")));
            CHECK(theta.min().item<float>() >= 0.0F);
            CHECK(theta.max().item<float>() <= 1.0F);
        }
    }

    TEST_CASE("latent_map: every way down, sizes that divide and sizes that do not") {
        const Pictures in;
        const Json cases = test::golden_json("sdd_loss.json").at("down");
        CHECK(cases.size() == 12);
        for (const Json& c : cases) {
            CAPTURE(c.dump().substr(0, 60));
            const at::Tensor& theta = c.at("channels") == 3 ? in.theta_3 : in.theta_1;
            const at::Tensor found =
                latent_map(theta, c.at("h"), c.at("w"), named<ThetaDown>(c.at("down"), downs));
            CHECK((found.sizes() == at::IntArrayRef{3, 1, c.at("h"), c.at("w")}));
            CHECK(test::distance_from_golden(found, c.at("theta_hat")) < 1.0);
        }
    }

    TEST_CASE("inject_noise: Eq. 9 and its gradient") {
        const test::GoldenLatents in;
        const Json golden = test::golden_json("sdd_loss.json").at("noise");
        at::Tensor z = in.z_s.clone().requires_grad_(true);
        const at::Tensor found = inject_noise(z, in.theta_hat, in.noise);
        CHECK(test::distance_from_golden(found, golden.at("value")) < 1.0);
        found.square().sum().backward();
        CHECK(test::distance_from_golden(z.grad(), golden.at("grad_of_square")) < 1.0);
    }

    TEST_CASE("distill_loss: Eq. 10 and its gradient, every norm, theta of 0, 1 and 3 channels") {
        const Pictures in;
        const Json cases = test::golden_json("sdd_loss.json").at("distill");
        CHECK(cases.size() == 19);
        for (const Json& c : cases) {
            CAPTURE(c.dump().substr(0, 150));
            const int channels = c.at("theta");
            const at::Tensor theta = channels == 0   ? at::Tensor()
                                     : channels == 1 ? in.theta_1
                                                     : in.theta_3;
            const DistillOptions options{.lambda_soft = c.at("lambda_soft"),
                                         .lambda_hard = c.at("lambda_hard"),
                                         .norm = named<PictureNorm>(c.at("norm"), picture_norms),
                                         .clamp = c.at("clamp")};
            at::Tensor y_s = in.y_s.clone().requires_grad_(true);
            const DistillLoss found = distill_loss(y_s, in.y_t, in.y, theta, options);
            CHECK(test::near_golden(found.loss, c.at("loss")));
            CHECK(test::near_golden(found.soft, c.at("soft")));
            CHECK(test::near_golden(found.hard, c.at("hard")));
            CHECK(!found.soft.requires_grad());
            CHECK(!found.hard.requires_grad());
            found.loss.backward();
            CHECK(test::distance_from_golden(y_s.grad(), c.at("grad_y_s")) < 1.0);
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("metric_loss: the printed second term has next to no gradient, of the wrong sign") {
        const test::GoldenLatents in;
        const at::Tensor first = anchor_gradient(in, {.neg2 = SecondTerm::off});
        // lambda alone large, so that float32 keeps what the second term adds to the first
        const double lambda = 1e4;
        const auto second = [&](SecondTerm term) {
            return (anchor_gradient(in, {.neg2 = term, .lambda = lambda}) - first) / lambda;
        };
        const at::Tensor printed = second(SecondTerm::as_printed);
        CHECK(norm_of(printed) < 1e-3 * norm_of(first));
        CHECK(norm_of(printed) > 0.0);
        CHECK(norm_of(second(SecondTerm::ratio)) > 0.1 * norm_of(first));

        // Descent along it brings unlike latents together ...
        const auto unrelated = [&](const at::Tensor& z) {
            return metric_loss(z, in.z_t, in.z_h, pairs({2, 0, 1}), {}).unrelated.mean();
        };
        const auto change = [&](const at::Tensor& gradient) {
            const at::Tensor step = gradient * (0.1 / norm_of(gradient));
            return (unrelated(in.z_s - step) - unrelated(in.z_s)).item<double>();
        };
        CHECK(change(printed) < -1e-3);
        // ... and along what the default sends through d_j, apart
        const auto through_denominators = [&](SecondTerm term) {
            return anchor_gradient(in, {.neg2 = term}) -
                   anchor_gradient(in, {.neg2 = term, .detach_neg = true});
        };
        const at::Tensor through_d_j =
            through_denominators(SecondTerm::ratio) - through_denominators(SecondTerm::off);
        CHECK(change(through_d_j) > 1e-3);
    }

    TEST_CASE("metric_loss: all latents times one factor leave the ratios as they are") {
        const test::GoldenLatents in;
        for (std::size_t dist = 0; dist < distances.size(); ++dist) {
            CAPTURE(distances[dist]);
            MetricLossOptions options;
            options.dist = static_cast<LatentDistance>(dist);
            options.epsilon = 1e-9;
            const auto loss = [&](double k) {
                return metric_loss(k * in.z_s, k * in.z_t, k * in.z_h, pairs({1, 2, 0}), options)
                    .loss.item<double>();
            };
            CHECK(loss(8.0) == doctest::Approx(loss(1.0)).epsilon(1e-6));
            CHECK(loss(0.18215) == doctest::Approx(loss(1.0)).epsilon(1e-6));
        }
    }

    TEST_CASE("metric_loss: a student that equals its teacher has a finite gradient") {
        const test::GoldenLatents in;
        for (std::size_t dist = 0; dist < distances.size(); ++dist) {
            CAPTURE(distances[dist]);
            at::Tensor z = in.z_s.clone().requires_grad_(true);
            MetricLossOptions options;
            options.dist = static_cast<LatentDistance>(dist);
            const MetricLoss found = metric_loss(z, in.z_s, in.z_h, pairs({1, 2, 0}), options);
            found.loss.backward();
            CHECK(std::isfinite(norm_of(z.grad())));
            CHECK(found.positive.max().item<double>() < 1e-5);
            // and nothing but it moves when even the severe one is the same
            at::Tensor all = in.z_s.clone().requires_grad_(true);
            metric_loss(all, in.z_s, in.z_s, {}, {.neg2 = SecondTerm::off, .dist = options.dist})
                .loss.backward();
            CHECK(norm_of(all.grad()) == 0.0);
        }
    }

    TEST_CASE("metric_loss: a small distance of directions is not lost in 1 - cos") {
        // cos differs from 1 by half the square of 1e-4 rad: 5e-9, below float32's step at 1
        const at::Tensor a = at::tensor({1.0F, 0.0F}).reshape({1, 2, 1, 1});
        const at::Tensor b = at::tensor({1.0F, 1e-4F}).reshape({1, 2, 1, 1});
        const MetricLossOptions options{.neg2 = SecondTerm::off, .dist = LatentDistance::cosine};
        const double found = metric_loss(a, b, -a, {}, options).positive.item<double>();
        CHECK(std::abs(found / 5e-9 - 1.0) < 1e-3);
        CHECK(metric_loss(a, b, -a, {}, options).severe.item<double>() == doctest::Approx(2.0));
    }

    TEST_CASE("metric_loss: off needs no other sample, and reports one that is given") {
        const test::GoldenLatents in;
        const MetricLossOptions off{.neg2 = SecondTerm::off};
        const at::Tensor one_s = in.z_s.slice(0, 0, 1), one_t = in.z_t.slice(0, 0, 1),
                         one_h = in.z_h.slice(0, 0, 1);
        const MetricLoss alone = metric_loss(one_s, one_t, one_h, {}, off);
        CHECK(!alone.unrelated.defined());
        CHECK(alone.loss.item<double>() ==
              doctest::Approx((alone.positive / alone.severe).item<double>()).epsilon(1e-5));
        const MetricLoss all = metric_loss(in.z_s, in.z_t, in.z_h, pairs({1, 2, 0}), off);
        CHECK((all.unrelated.sizes() == at::IntArrayRef{3}));
        // lambda = 0 takes the second term out, whatever it is
        const MetricLoss weightless =
            metric_loss(in.z_s, in.z_t, in.z_h, pairs({1, 2, 0}), {.lambda = 0.0});
        CHECK(weightless.loss.equal(all.loss));
    }

    TEST_CASE("metric_loss: impossible batches, pairs, options and shapes") {
        const test::GoldenLatents in;
        const auto call = [&](const at::Tensor& t, const at::Tensor& j,
                              const MetricLossOptions& options = {}) {
            return fault_of([&] { metric_loss(in.z_s, t, in.z_h, j, options); });
        };
        const at::Tensor one = in.z_s.slice(0, 0, 1);
        CHECK(fault_of([&] { metric_loss(one, one, one, pairs({0}), {}); }) == Fault::usage);
        CHECK(call(in.z_t, pairs({1, 2, 0}), {.epsilon = 0.0}) == Fault::usage);
        CHECK(call(in.z_t, {}) == Fault::internal);
        CHECK(call(in.z_t, pairs({1, 1, 0})) == Fault::internal);   // itself
        CHECK(call(in.z_t, pairs({1, 3, 0})) == Fault::internal);   // none
        CHECK(call(in.z_t, pairs({1, -1, 0})) == Fault::internal);  // none
        CHECK(call(in.z_t, pairs({1, 0})) == Fault::internal);
        CHECK(call(in.z_t, pairs({1, 2, 0}).to(at::kInt)) == Fault::internal);
        CHECK(call(one, pairs({1, 2, 0})) == Fault::internal);
        CHECK(call({}, pairs({1, 2, 0})) == Fault::internal);
        CHECK(fault_of([&] {
                  metric_loss(in.z_s, in.z_t, one, pairs({1, 2, 0}), {});
              }) == Fault::internal);
    }

    TEST_CASE("unrelated_samples: never itself, every picture once, every shift and derangement") {
        for (const PairRule rule : {PairRule::cyclic_shift, PairRule::random_derangement}) {
            std::set<std::vector<std::int64_t>> seen;
            std::map<std::int64_t, int> first;
            for (std::uint64_t step = 0; step < 400; ++step) {
                Rng rng(7, step);
                const at::Tensor j = unrelated_samples(5, rule, rng);
                REQUIRE((j.scalar_type() == at::kLong));
                const std::int64_t* p = j.const_data_ptr<std::int64_t>();
                const std::vector<std::int64_t> values(p, p + 5);
                for (std::int64_t i = 0; i < 5; ++i) {
                    CHECK(values[static_cast<std::size_t>(i)] != i);
                }
                CHECK(std::set(values.begin(), values.end()) ==
                      std::set<std::int64_t>{0, 1, 2, 3, 4});
                seen.insert(values);
                ++first[values[0]];
                Rng again(7, step);
                CHECK(unrelated_samples(5, rule, again).equal(j));
            }
            // 4 shifts; !5 = 44 derangements, each missed by 400 draws with odds of 1e-4
            CHECK(seen.size() == (rule == PairRule::cyclic_shift ? 4 : 44));
            CHECK(first.size() == 4);
            for (const auto& [j, count] : first) CHECK(count > 60);  // 100 expected, deviation 9
        }
        Rng rng(1, 2);
        CHECK(unrelated_samples(2, PairRule::cyclic_shift, rng).equal(pairs({1, 0})));
        CHECK(unrelated_samples(2, PairRule::random_derangement, rng).equal(pairs({1, 0})));
        for (const std::int64_t n : {1, 0, -3}) {
            CHECK(fault_of([&] { unrelated_samples(n, PairRule::cyclic_shift, rng); }) ==
                  Fault::usage);
        }
    }

    TEST_CASE("unrelated_samples: a cyclic shift is torch's roll of the latents") {
        Rng rng(3, 4), same(3, 4);
        const at::Tensor j = unrelated_samples(7, PairRule::cyclic_shift, rng);
        const std::int64_t r = 1 + same.below(6);
        CHECK(j.equal(at::roll(at::arange(7, at::kLong), r)));
    }

    TEST_CASE("uncertainty_map: the mean is kappa where nothing is clamped, below where it is") {
        const Pictures in;
        for (const double kappa : {0.0, 0.1, 1.0 / 3.0, 0.4}) {
            const at::Tensor theta = uncertainty_map({in.y_t, {}, {}}, {.kappa = kappa});
            CHECK(theta.max().item<float>() < 1.0F);
            for (std::int64_t n = 0; n < 3; ++n) {  // a bright picture gets no more than a dark one
                CHECK(theta[n].mean().item<double>() == doctest::Approx(kappa).epsilon(1e-6));
            }
            const at::Tensor brighter =
                uncertainty_map({in.y_t * 0.5 + 0.5, {}, {}}, {.kappa = kappa});
            CHECK(brighter.mean().item<double>() == doctest::Approx(kappa).epsilon(1e-6));
            CHECK((latent_map(theta, 3, 5, ThetaDown::area).mean() - theta.mean())
                      .abs()
                      .item<double>() < 1e-6);
        }
        const at::Tensor clamped =
            uncertainty_map({in.y_t, in.y, {}}, {.source = ThetaSource::error});
        CHECK(clamped[2].max().item<float>() == 1.0F);
        CHECK(clamped[2].mean().item<double>() < 0.3);
    }

    TEST_CASE("uncertainty_map: one channel of l1_channel is the constant 1/3") {
        const Pictures in;
        for (std::size_t source = 0; source < sources.size(); ++source) {
            CAPTURE(sources[source]);
            ThetaOptions options;
            options.source = static_cast<ThetaSource>(source);
            options.norm = ThetaNorm::l1_channel;
            const TeacherView view{in.y_t, in.y, in.samples};
            const at::Tensor theta = uncertainty_map(view, options);
            CHECK((theta - 1.0 / 3.0).abs().max().item<double>() < 1e-7);
            // and so is its map of the latent even when the channels were kept
            options.per_channel = true;
            const at::Tensor kept = uncertainty_map(view, options);
            CHECK((kept - 1.0 / 3.0).abs().max().item<double>() > 0.05);
            const at::Tensor map = latent_map(kept, 3, 5, ThetaDown::area);
            CHECK((map - 1.0 / 3.0).abs().max().item<double>() < 1e-7);
        }
    }

    TEST_CASE("uncertainty_map: a map that says nothing is the constant of its normalisation") {
        const at::Tensor flat = at::zeros({2, 3, 9, 5});
        const at::Tensor flat_samples = at::zeros({2, 2, 3, 9, 5});
        for (std::size_t source = 1; source < sources.size(); ++source) {
            for (std::size_t norm = 0; norm < norms.size(); ++norm) {
                CAPTURE(sources[source]);
                CAPTURE(norms[norm]);
                ThetaOptions options;
                options.source = static_cast<ThetaSource>(source);
                options.norm = static_cast<ThetaNorm>(norm);
                options.kappa = 0.25;
                const double expected[] = {0.25, 1.0 / 3.0, 1.0, 0.5};
                const at::Tensor theta = uncertainty_map({flat, flat, flat_samples}, options);
                CHECK((theta - expected[norm]).abs().max().item<double>() < 1e-7);
            }
        }
    }

    TEST_CASE("uncertainty_map: detached, float32, of each picture by itself, of any size") {
        const Pictures in;
        at::Tensor y_t = in.y_t.clone().requires_grad_(true);
        at::Tensor samples = in.samples.clone().requires_grad_(true);
        for (std::size_t source = 0; source < sources.size(); ++source) {
            CAPTURE(sources[source]);
            ThetaOptions options;
            options.source = static_cast<ThetaSource>(source);
            const at::Tensor theta = uncertainty_map({y_t, in.y, samples}, options);
            CHECK(!theta.requires_grad());
            const at::Tensor half = uncertainty_map(
                {in.y_t.to(at::kBFloat16), in.y.to(at::kBFloat16), in.samples.to(at::kBFloat16)},
                options);
            CHECK((half.scalar_type() == at::kFloat));
            const at::Tensor last = uncertainty_map(
                {in.y_t.slice(0, 2), in.y.slice(0, 2), in.samples.slice(1, 2)}, options);
            CHECK(last.equal(theta.slice(0, 2)));
            const at::Tensor tiny = uncertainty_map(
                {in.y_t.slice(2, 0, 2).slice(3, 0, 1), in.y.slice(2, 0, 2).slice(3, 0, 1),
                 in.samples.slice(3, 0, 2).slice(4, 0, 1)},
                options);
            CHECK((tiny.sizes() == at::IntArrayRef{3, 1, 2, 1}));
        }
        const at::Tensor constant = constant_map(y_t, 0.25);
        CHECK((constant.sizes() == at::IntArrayRef{3, 1, 24, 40}));
        CHECK(constant.equal(at::full({3, 1, 24, 40}, 0.25)));
        CHECK(!constant.requires_grad());
        CHECK(constant_map(y_t.to(at::kHalf), 0.1).equal(at::full({3, 1, 24, 40}, 0.1)));
    }

    TEST_CASE("uncertainty_map, latent_map: what cannot be is refused") {
        const Pictures in;
        const auto map = [&](const TeacherView& view, const ThetaOptions& options) {
            return fault_of([&] { uncertainty_map(view, options); });
        };
        CHECK(map({{}, in.y, in.samples}, {}) == Fault::internal);
        CHECK(map({in.theta_1, {}, {}}, {}) == Fault::internal);
        CHECK(map({in.y_t, {}, {}}, {.source = ThetaSource::error}) == Fault::internal);
        CHECK(map({in.y_t, in.y.slice(0, 0, 1), {}}, {.source = ThetaSource::error}) ==
              Fault::internal);
        CHECK(map({in.y_t, in.y, {}}, {.source = ThetaSource::posterior_var}) == Fault::internal);
        CHECK(map({in.y_t, in.y, in.samples.slice(0, 0, 1)},
                  {.source = ThetaSource::posterior_var}) == Fault::internal);
        CHECK(map({in.y_t, {}, {}}, {.kappa = 1.5}) == Fault::usage);
        CHECK(map({in.y_t, {}, {}}, {.kappa = -0.1}) == Fault::usage);
        CHECK(fault_of([&] { constant_map(in.y_t, NAN); }) == Fault::usage);
        CHECK(fault_of([&] { constant_map(in.y_t[0], 0.5); }) == Fault::internal);
        for (const auto& [h, w] : {std::pair{0, 5}, std::pair{25, 40}, std::pair{3, 41}}) {
            CHECK(fault_of([&] { latent_map(in.theta_1, h, w, ThetaDown::area); }) ==
                  Fault::internal);
        }
        CHECK(fault_of([&] { latent_map(in.samples[0].slice(1, 0, 2), 3, 5, ThetaDown::max); }) ==
              Fault::internal);
    }

    TEST_CASE("inject_noise: theta 0 is the latent, theta 1 the noise, shapes are checked") {
        const test::GoldenLatents in;
        const auto with = [&](double theta) {
            return inject_noise(in.z_s, at::full({3, 1, 6, 5}, theta), in.noise);
        };
        CHECK(with(0.0).equal(in.z_s));
        CHECK(with(1.0).equal(in.noise));
        const at::Tensor half = inject_noise(in.z_s.to(at::kHalf), in.theta_hat.to(at::kHalf),
                                             in.noise.to(at::kBFloat16));
        CHECK((half.scalar_type() == at::kFloat));
        for (const at::Tensor& wrong :
             {at::zeros({3, 4, 6, 5}), at::zeros({1, 1, 6, 5}), at::zeros({3, 1, 5, 6}),
              at::zeros({3, 1, 24, 40}), at::Tensor()}) {
            CHECK(fault_of([&] { inject_noise(in.z_s, wrong, in.noise); }) == Fault::internal);
        }
        CHECK(fault_of([&] { inject_noise(in.z_s, in.theta_hat, in.noise[0]); }) ==
              Fault::internal);
    }

    TEST_CASE("distill_loss: a lambda of 0 takes its picture out of the graph, NaN and all") {
        const Pictures in;
        const at::Tensor nan = at::full_like(in.y, std::numeric_limits<float>::quiet_NaN());
        const auto trained = [&](const at::Tensor& y_t, const at::Tensor& y,
                                 const DistillOptions& options) {
            at::Tensor y_s = in.y_s.clone().requires_grad_(true);
            const DistillLoss found = distill_loss(y_s, y_t, y, in.theta_1, options);
            found.loss.backward();
            return at::stack({found.loss.detach().expand_as(y_s), y_s.grad()});
        };
        for (std::size_t norm = 0; norm < picture_norms.size(); ++norm) {
            CAPTURE(picture_norms[norm]);
            const auto kind = static_cast<PictureNorm>(norm);
            const DistillOptions soft{.lambda_hard = 0.0, .norm = kind};
            const at::Tensor expected = trained(in.y_t, in.y, soft);
            CHECK(trained(in.y_t, nan, soft).equal(expected));
            CHECK(trained(in.y_t, {}, soft).equal(expected));
            CHECK(trained(in.y_t, -in.y, soft).equal(expected));
            CHECK(!trained(nan, in.y, soft).equal(expected));

            const DistillOptions hard{.lambda_soft = 0.0, .norm = kind};
            CHECK(trained(nan, in.y, hard).equal(trained(in.y_t, in.y, hard)));
            CHECK(trained({}, in.y, hard).equal(trained(in.y_t, in.y, hard)));
        }
        // The log still says how far it is
        const DistillOptions soft{.lambda_hard = 0.0};
        const at::Tensor logged = distill_loss(in.y_s, in.y_t, in.y, in.theta_1, soft).hard;
        CHECK(logged.equal(distill_loss(in.y_s, in.y_t, in.y, in.theta_1).hard));
        CHECK(!distill_loss(in.y_s, in.y_t, {}, in.theta_1, soft).hard.defined());
    }

    TEST_CASE("distill_loss: theta chooses who teaches; none at all lets both") {
        const Pictures in;
        const auto terms = [&](const at::Tensor& theta) {
            const DistillLoss found = distill_loss(in.y_s, in.y_t, in.y, theta);
            CHECK(found.loss.item<double>() ==
                  doctest::Approx(found.soft.item<double>() + 1.5 * found.hard.item<double>()));
            return std::pair{found.soft.item<double>(), found.hard.item<double>()};
        };
        const auto both = terms({});
        const auto teacher = terms(constant_map(in.y_s, 0.0));
        const auto truth = terms(constant_map(in.y_s, 1.0));
        CHECK(teacher.first == both.first);
        CHECK(truth.second == both.second);
        CHECK(teacher.second < 2e-6);  // the 1e-12 under the root
        CHECK(truth.first < 2e-6);
        // One channel weighs all three alike
        const at::Tensor wide = in.theta_1.expand({3, 3, 24, 40});
        CHECK(terms(in.theta_1) == terms(wide));
    }

    TEST_CASE("distill_loss: the norms are each other up to their factors") {
        const Pictures in;
        const auto soft = [&](PictureNorm norm, std::int64_t n) {
            return distill_loss(in.y_s.slice(0, n, n + 1), in.y_t.slice(0, n, n + 1),
                                in.y.slice(0, n, n + 1), {}, {.norm = norm})
                .soft.item<double>();
        };
        for (std::int64_t n = 0; n < 3; ++n) {
            const double rms = soft(PictureNorm::rms, n);
            CHECK(soft(PictureNorm::l2_sum, n) ==
                  doctest::Approx(rms * std::sqrt(3.0 * 24 * 40)).epsilon(1e-6));
            CHECK(soft(PictureNorm::mse, n) == doctest::Approx(rms * rms).epsilon(1e-6));
            CHECK(soft(PictureNorm::l1, n) < rms);
        }
    }

    TEST_CASE("distill_loss: clamped pixels beyond the range have no gradient") {
        const Pictures in;
        const auto gradient = [&](bool clamp) {
            at::Tensor y_s = in.y_s.clone().requires_grad_(true);
            // The teacher's picture is no target for pixels beyond: all differences are alive
            distill_loss(y_s, in.y_t * 0.5, in.y * 0.25, {}, {.clamp = clamp}).loss.backward();
            return y_s.grad();
        };
        const at::Tensor beyond = in.y_s.abs() > 1.0;
        CHECK(beyond.sum().item<int>() > 100);
        CHECK(gradient(true).masked_select(beyond).abs().max().item<float>() == 0.0F);
        CHECK(gradient(false).masked_select(beyond).abs().min().item<float>() > 0.0F);
    }

    TEST_CASE("distill_loss: what cannot be is refused") {
        const Pictures in;
        const auto call = [&](const at::Tensor& y_t, const at::Tensor& y, const at::Tensor& theta,
                              const DistillOptions& options = {}) {
            return fault_of([&] { distill_loss(in.y_s, y_t, y, theta, options); });
        };
        CHECK(call(in.y_t, in.y, {}, {.lambda_soft = 0.0, .lambda_hard = 0.0}) == Fault::usage);
        CHECK(call(in.y_t, in.y, {}, {.lambda_soft = -1.0}) == Fault::usage);
        CHECK(call(in.y_t, in.y, {}, {.lambda_hard = NAN}) == Fault::usage);
        CHECK(call({}, in.y, {}) == Fault::internal);
        CHECK(call(in.y_t, {}, {}) == Fault::internal);
        CHECK(call(in.y_t[0], in.y, {}) == Fault::internal);
        CHECK(call(in.y_t, in.y.slice(0, 0, 1), {}) == Fault::internal);
        CHECK(call(in.y_t, in.y, at::zeros({3, 2, 24, 40})) == Fault::internal);
        CHECK(call(in.y_t, in.y, at::zeros({1, 1, 24, 40})) == Fault::internal);
        CHECK(call(in.y_t, in.y, at::zeros({3, 1, 3, 5})) == Fault::internal);
        CHECK(fault_of([&] { distill_loss(in.theta_1, in.y_t, in.y, {}); }) == Fault::internal);
    }
}

TEST_SUITE("property") {
    TEST_CASE("SDD losses: float32 from half precision, and any number of threads") {
        const Pictures in;
        const test::GoldenLatents latents;
        const auto f = [](const at::Tensor& x) { return x.to(at::kFloat); };
        const at::Tensor z = latents.z_s.to(at::kBFloat16), t = latents.z_t.to(at::kHalf),
                         h = latents.z_h.to(at::kBFloat16), j = pairs({1, 2, 0});
        CHECK(metric_loss(z, t, h, j).loss.equal(metric_loss(f(z), f(t), f(h), j).loss));
        const at::Tensor s = in.y_s.to(at::kBFloat16), y_t = in.y_t.to(at::kHalf);
        CHECK(distill_loss(s, y_t, in.y, in.theta_1)
                  .loss.equal(distill_loss(f(s), f(y_t), in.y, in.theta_1).loss));

        // Large enough for ATen to share the work: one picture of 3 x 240 x 400
        const at::Tensor i = at::arange(288000, at::kFloat).reshape({1, 3, 240, 400});
        const at::Tensor y_s = at::sin(0.37 * i), large_t = at::sin(0.41 * i + 1.0);
        for (std::size_t norm = 0; norm < picture_norms.size(); ++norm) {
            CAPTURE(picture_norms[norm]);
            const DistillOptions options{.norm = static_cast<PictureNorm>(norm)};
            CHECK(same_with_any_threads([&] {
                at::Tensor leaf = y_s.clone().requires_grad_(true);
                const at::Tensor loss = distill_loss(leaf, large_t, large_t, {}, options).loss;
                loss.backward();
                return at::stack({loss.detach().expand_as(leaf), leaf.grad()});
            }));
            ThetaOptions theta;
            theta.norm = static_cast<ThetaNorm>(norm);
            CHECK(same_with_any_threads([&] { return uncertainty_map({large_t, {}, {}}, theta); }));
        }
        const at::Tensor z_s = y_s.reshape({2, 4, 120, 300}), z_t = large_t.reshape(z_s.sizes());
        for (std::size_t dist = 0; dist < distances.size(); ++dist) {
            CAPTURE(distances[dist]);
            MetricLossOptions options;
            options.dist = static_cast<LatentDistance>(dist);
            CHECK(same_with_any_threads([&] {
                at::Tensor leaf = z_s.clone().requires_grad_(true);
                const at::Tensor loss = metric_loss(leaf, z_t, -z_t, pairs({1, 0}), options).loss;
                loss.backward();
                return at::stack({loss.detach().expand_as(leaf), leaf.grad()});
            }));
        }
    }
}
