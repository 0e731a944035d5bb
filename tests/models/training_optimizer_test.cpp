#include "models/training/optimizer.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "data/file.h"
#include "tests/models/devices.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;

namespace {

Json golden_adamw() {
    const auto path = test::golden("models_adamw.json");
    return parse_json(read_file(path), path.string());
}

/// The values of make_adamw.py: of parameter number p, or of its gradient in a step.
at::Tensor formula(const Json& parameter, std::int64_t p, std::int64_t step = -1) {
    const auto shape = parameter.at("shape").get<std::vector<std::int64_t>>();
    std::int64_t count = 1;
    for (const std::int64_t n : shape) count *= n;
    const at::Tensor i = at::arange(count, at::TensorOptions(at::kLong));
    const at::Tensor v = step < 0
                             ? ((i * 37 + 11 * p).remainder(64) - 31).to(at::kDouble) / 32
                             : ((i * 29 + 17 * p + 23 * step).remainder(64) - 30).to(at::kDouble) /
                                   std::exp2(5.0 + 3.0 * static_cast<double>(p));
    return v.to(at::kFloat).reshape(shape);
}

at::Tensor leaf(const at::Tensor& values) { return values.clone().requires_grad_(true); }

NamedTensors leaves_of(const Json& golden, const c10::Device& device = at::kCPU) {
    NamedTensors parameters;
    std::int64_t p = 0;
    for (const Json& parameter : golden.at("parameters")) {
        parameters[parameter.at("name").get<std::string>()] =
            leaf(formula(parameter, p++).to(device));
    }
    return parameters;
}

AdamWOptions options_of(const Json& golden) {
    return {.learning_rate = 1e-2,
            .beta1 = golden.at("beta1").get<double>(),
            .beta2 = golden.at("beta2").get<double>(),
            .epsilon = golden.at("epsilon").get<double>(),
            .weight_decay = golden.at("weight_decay").get<double>()};
}

/// The gradients of step `step`.
void set_gradients(const Json& golden, const NamedTensors& parameters, std::int64_t step,
                   bool with_skips = true) {
    std::int64_t p = 0;
    for (const Json& parameter : golden.at("parameters")) {
        const at::Tensor& tensor = parameters.at(parameter.at("name").get<std::string>());
        const auto skips = parameter.at("skips").get<std::vector<std::int64_t>>();
        const bool skip = with_skips && std::find(skips.begin(), skips.end(), step) != skips.end();
        tensor.mutable_grad() =
            skip ? at::Tensor() : formula(parameter, p, step).to(tensor.device());
        ++p;
    }
}

double error_of(const Json& expected, const at::Tensor& tensor) {
    const at::Tensor flat = tensor.detach().to(at::kCPU).flatten();
    const auto values = expected.get<std::vector<double>>();
    REQUIRE(std::int64_t(values.size()) == flat.numel());
    double error = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        error = std::max(error, std::abs(values[i] - flat[std::int64_t(i)].item<double>()));
    }
    return error;
}

NamedTensors copies(const NamedTensors& tensors) {
    NamedTensors result;
    for (const auto& [name, tensor] : tensors) result[name] = tensor.detach().clone();
    return result;
}

bool equal(const NamedTensors& a, const NamedTensors& b) {
    if (a.size() != b.size()) return false;
    for (const auto& [name, tensor] : a) {
        if (!b.contains(name) || !tensor.equal(b.at(name))) return false;
    }
    return true;
}

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("AdamW: five steps with changing rates and missing gradients, as torch.optim.AdamW") {
        const Json golden = golden_adamw();
        for (const c10::Device& device : test::devices()) {
            const NamedTensors parameters = leaves_of(golden, device);
            AdamW optimizer(parameters, options_of(golden));
            for (std::size_t s = 0; s < 5; ++s) {
                set_gradients(golden, parameters, std::int64_t(s));
                optimizer.step(golden.at("rates").at(s).get<double>());
                for (const auto& [name, tensor] : parameters) {
                    CHECK(error_of(golden.at("after").at(s).at(name), tensor) < 1e-6);
                }
            }
        }
    }

    TEST_CASE("clip_gradients: norm and gradients, as torch.nn.utils.clip_grad_norm_") {
        const Json golden = golden_adamw();
        for (const c10::Device& device : test::devices()) {
            const NamedTensors parameters = leaves_of(golden, device);
            set_gradients(golden, parameters, 0, false);
            CHECK(clip_gradients(parameters, 1.0) ==
                  doctest::Approx(golden.at("norm").get<double>()).epsilon(1e-6));
            for (const auto& [name, tensor] : parameters) {
                CHECK(error_of(golden.at("clipped").at(name), tensor.grad()) < 1e-6);
            }
            CHECK(gradient_norm(parameters) == doctest::Approx(1.0).epsilon(1e-5));
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("AdamW: one step by hand") {
        const at::Tensor w = leaf(at::full({1}, 2.0));
        AdamW optimizer({{"w", w}}, {.learning_rate = 0.5, .weight_decay = 0.1});
        w.mutable_grad() = at::full({1}, -3.0);
        optimizer.step();
        // Decay takes 0.5 * 0.1 * 2, the first step of Adam is the rate, whatever the gradient
        CHECK(w.item<double>() == doctest::Approx(2.0 - 0.1 + 0.5).epsilon(1e-6));
    }

    TEST_CASE("AdamW: without a gradient a parameter stays, its decay and its count too") {
        const at::Tensor with = leaf(at::ones({3})), without = leaf(at::ones({3}));
        AdamW optimizer({{"with", with}, {"without", without}}, {});
        with.mutable_grad() = at::ones({3});
        optimizer.step();
        CHECK(!with.equal(at::ones({3})));
        CHECK(without.equal(at::ones({3})));
        CHECK(optimizer.state().at("with.step").item<double>() == 1);
        CHECK(optimizer.state().at("without.step").item<double>() == 0);
        optimizer.zero_grad();
        CHECK(!with.grad().defined());
        const at::Tensor before = with.detach().clone();
        optimizer.step();
        CHECK(with.equal(before));
    }

    TEST_CASE("AdamW: a gradient that lies otherwise in memory is the same gradient") {
        const at::Tensor values = at::randn({4, 6}), gradient = at::randn({4, 6});
        const at::Tensor a = leaf(values), b = leaf(values);
        AdamW first({{"w", a}}, {.learning_rate = 0.1}), second({{"w", b}}, {.learning_rate = 0.1});
        a.mutable_grad() = gradient;
        b.mutable_grad() = gradient.t().contiguous().t();
        REQUIRE(b.grad().strides() != a.grad().strides());
        first.step();
        second.step();
        CHECK(a.equal(b));
        CHECK(!a.equal(values));
    }

    TEST_CASE("AdamW: what does not fit is named") {
        const at::Tensor w = leaf(at::ones({2, 3}));
        AdamW optimizer({{"w", w}}, {});
        w.mutable_grad() = at::ones({2, 3});
        optimizer.step();
        NamedTensors state = optimizer.state();
        const NamedTensors before = copies(state);
        state.erase("w.exp_avg");
        state["v.step"] = at::ones({1});
        state["w.exp_avg_sq"] = at::ones({3, 2});
        state["w.step"] = at::ones({}, at::TensorOptions(at::kLong));
        const std::string text = sentence_of(Fault::input, [&] { optimizer.restore(state); });
        CHECK(contains(text, "1 missing (w.exp_avg)"));
        CHECK(contains(text, "1 surplus (v.step)"));
        CHECK(contains(text, "w.exp_avg_sq [3, 2] instead of [2, 3]"));
        CHECK(contains(text, "1 not float32 (w.step)"));
        CHECK(equal(optimizer.state(), before));

        CHECK(contains(sentence_of(Fault::internal,
                                   [] {
                                       AdamW({{"h", leaf(at::ones({2}).to(at::kHalf))}}, {});
                                   }),
                       "h is not one"));
        CHECK(contains(sentence_of(Fault::usage,
                                   [&] {
                                       AdamW({{"w", w}}, {.beta2 = 1});
                                   }),
                       "betas in [0,1); got 5e-05, 1e-08, 0.01, 0.9 and 1"));
    }

    TEST_CASE("gradient_norm: by hand, without gradients, and with what is not finite") {
        const at::Tensor a = leaf(at::zeros({2})), b = leaf(at::zeros({3}));
        const NamedTensors parameters{{"a", a}, {"b", b}};
        CHECK(gradient_norm(parameters) == 0);
        a.mutable_grad() = at::tensor({3.0f, 0.0f});
        CHECK(gradient_norm(parameters) == 3);
        b.mutable_grad() = at::tensor({0.0f, -4.0f, 0.0f});
        CHECK(gradient_norm(parameters) == 5);
        scale_gradients(parameters, 0.5);
        CHECK(gradient_norm(parameters) == 2.5);

        CHECK(clip_gradients(parameters, 3) == 2.5);  // short enough
        CHECK(b.grad()[1].item<double>() == -2);
        b.mutable_grad()[0] = std::numeric_limits<float>::infinity();
        CHECK(std::isinf(clip_gradients(parameters, 1)));
        CHECK(a.grad()[0].item<double>() == 1.5);  // nobody touched it
        a.mutable_grad()[1] = std::numeric_limits<float>::quiet_NaN();
        CHECK(std::isnan(gradient_norm(parameters)));
    }

    TEST_CASE("gradient_norm: large values do not overflow") {
        const at::Tensor w = leaf(at::zeros({4}));
        w.mutable_grad() = at::full({4}, 1e30);
        CHECK(gradient_norm({{"w", w}}) == doctest::Approx(2e30).epsilon(1e-6));
    }

    TEST_CASE("LossScale: halved at once, doubled after 2000 good steps, never below 1") {
        LossScale scale;
        CHECK(scale.value() == 65536);
        for (int i = 0; i < 1999; ++i) scale.update(true);
        scale.update(false);
        CHECK(scale.value() == 32768);
        for (int i = 0; i < 1999; ++i) scale.update(true);
        CHECK(scale.value() == 32768);
        LossScale resumed;
        resumed.restore(scale.state());
        resumed.update(true);
        CHECK(resumed.value() == 65536);
        for (int i = 0; i < 40; ++i) scale.update(false);
        CHECK(scale.value() == 1);
        CHECK(contains(sentence_of(Fault::input,
                                   [&] {
                                       scale.restore({{"value", 2}});
                                   }),
                       "needs the number \"good_steps\""));
        CHECK_THROWS_AS(scale.restore({{"value", 0}, {"good_steps", 0}}), Error);
        CHECK_THROWS_AS(scale.restore(Json()), Error);
    }

    TEST_CASE("Ema: the recurrence, apart from the weights, and back from its state") {
        const at::Tensor w = leaf(at::full({2}, 1.0));
        Ema ema({{"w", w}}, 0.75);
        {
            const c10::NoGradGuard guard;
            w.fill_(5.0);
        }
        CHECK(ema.averages().at("w").equal(at::ones({2})));
        ema.update({{"w", w}});
        CHECK(ema.averages().at("w").equal(at::full({2}, 2.0)));
        CHECK(!ema.averages().at("w").requires_grad());
        const NamedTensors state = ema.state();
        ema.update({{"w", w}});
        CHECK(ema.averages().at("w").equal(at::full({2}, 2.75)));
        CHECK(state.at("w").equal(at::full({2}, 2.0)));
        ema.restore(state);
        CHECK(ema.averages().at("w").equal(at::full({2}, 2.0)));
        CHECK_THROWS_AS(ema.restore({{"v", w.detach()}}), Error);
        CHECK(contains(sentence_of(Fault::usage, [&] { Ema({{"w", w}}, 1.0); }), "decay"));
    }

    TEST_CASE("LearningRate: warm-up, then constant, half a wave, or a line") {
        const LearningRate constant{.peak = 2, .warmup_steps = 4};
        CHECK(constant.at(0) == 0.5);
        CHECK(constant.at(3) == 2);
        CHECK(constant.at(1000000) == 2);
        CHECK(LearningRate{.peak = 3}.at(0) == 3);

        LearningRate rate{.peak = 2,
                          .warmup_steps = 10,
                          .shape = LearningRate::Shape::cosine,
                          .total_steps = 30,
                          .end_fraction = 0.1};
        CHECK(rate.at(10) == 2);
        CHECK(rate.at(15) == doctest::Approx(0.2 + 1.8 * (1 + std::sqrt(0.5)) / 2));
        CHECK(rate.at(20) == doctest::Approx(1.1));
        CHECK(rate.at(30) == doctest::Approx(0.2));
        CHECK(rate.at(99) == doctest::Approx(0.2));
        rate.shape = LearningRate::Shape::linear;
        CHECK(rate.at(15) == doctest::Approx(0.2 + 1.8 * 0.75));
        CHECK(rate.at(99) == doctest::Approx(0.2));
        rate.check();
        rate.total_steps = 10;
        CHECK(contains(sentence_of(Fault::usage, [&] { rate.check(); }), "no curve"));
    }
}

TEST_SUITE("property") {
    TEST_CASE("AdamW: restored in the middle it goes on with the same bits") {
        const Json golden = golden_adamw();
        const NamedTensors parameters = leaves_of(golden);
        AdamW optimizer(parameters, options_of(golden));
        NamedTensors weights, state;
        for (std::int64_t s = 0; s < 5; ++s) {
            if (s == 2) weights = copies(parameters), state = optimizer.state();
            set_gradients(golden, parameters, s);
            optimizer.step(0.01);
        }
        NamedTensors resumed;
        for (const auto& [name, tensor] : weights) resumed[name] = leaf(tensor);
        AdamW second(resumed, options_of(golden));
        second.restore(state);
        for (std::int64_t s = 2; s < 5; ++s) {
            set_gradients(golden, resumed, s);
            second.step(0.01);
        }
        CHECK(equal(copies(parameters), copies(resumed)));
        CHECK(equal(optimizer.state(), second.state()));
        CHECK(!equal(state, second.state()));
    }

    TEST_CASE("steps and norms have the same bits for any number of threads") {
        const int threads = at::get_num_threads();
        const at::Tensor values = at::randn({300007}), gradient = at::randn({300007});
        const auto run = [&](int n) {
            at::set_num_threads(n);
            const at::Tensor w = leaf(values);
            w.mutable_grad() = gradient.clone();
            const double norm = clip_gradients({{"w", w}}, 1.0);
            AdamW optimizer({{"w", w}}, {.learning_rate = 0.1});
            optimizer.step();
            optimizer.step();
            return std::pair(norm, w.detach());
        };
        const auto one = run(1);
        for (const int n : {2, 3, 5}) {
            const auto many = run(n);
            CHECK(one.first == many.first);
            CHECK(one.second.equal(many.second));
        }
        at::set_num_threads(threads);
        CHECK(one.first == doctest::Approx(gradient.to(at::kDouble).norm().item<double>()));
    }
}
