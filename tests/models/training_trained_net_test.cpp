// Networks that learn: what adapters add at first, what they become in the weights, and whether
// their gradients are those of the function.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <cmath>
#include <functional>

#include "models/training/stage_parts.h"
#include "models/training/trained_net.h"
#include "tests/models/nets.h"
#include "tests/models/training_fixture.h"
#include "tests/sentence.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

using test::bit_equal;
using test::contains;
using test::sentence_of;
using test::uniform;

const Placement cpu{};

ModelParts family() { return read_family(test::training_ground().family); }

/// All B get values, so that adapters say something.
void fill_b(const NamedTensors& parameters, double size) {
    const c10::NoGradGuard no_gradient;
    std::uint64_t item = 0;
    for (const auto& [name, tensor] : parameters) {
        if (!name.ends_with(".lora_B.weight")) continue;
        at::Tensor(tensor).copy_(uniform(tensor.sizes(), -size, size, ++item));
    }
}

at::Tensor latents() { return uniform({2, 4, 8, 8}, -1.7, 1.7, 1); }
at::Tensor context() { return uniform({2, 77, 8}, -1.7, 1.7, 2); }
at::Tensor pictures() { return uniform({2, 3, 32, 32}, 0.0, 1.0, 3); }

double relative(const at::Tensor& a, const at::Tensor& b) {
    return ((a - b).abs().max() / b.abs().max()).item<double>();
}

/// The slope along `direction`, by central differences at h, h / 2, h / 4, h / 8.
///
/// Two neighbours extrapolated to 0 (Richardson) have an error of fourth order in h, which grows
/// with h, and the rounding of a function computed in float32 (about 1e-7 of its value over h),
/// which falls with it: what two such numbers agree on best is taken.
double slope(const std::function<double()>& f, const at::Tensor& parameter,
             const at::Tensor& direction, double h) {
    const c10::NoGradGuard no_gradient;
    at::Tensor p = parameter;
    const at::Tensor start = p.detach().clone();
    const auto at_step = [&](double s) {
        p.copy_(start + s * direction);
        return f();
    };
    std::vector<double> plain, better;
    for (int k = 0; k < 4; ++k, h /= 2) plain.push_back((at_step(h) - at_step(-h)) / (2.0 * h));
    p.copy_(start);
    for (std::size_t k = 1; k < 4; ++k) better.push_back((4.0 * plain[k] - plain[k - 1]) / 3.0);
    const bool wide = std::abs(better[0] - better[1]) < std::abs(better[1] - better[2]);
    return (better[1] + (wide ? better[0] : better[2])) / 2;
}

/// Compares parameters' gradients with slopes: along the gradient, bent by as much at random, so
/// that an element without its share shows too.
///
/// Where a gradient is short against the function's value (below a twentieth of it a unit), the
/// rounding of float32 says more than 3e-4 of the slope, three times the specification's 1e-4,
/// which needs float64: such parameters are left out. A gradient that lacks a term or a factor is
/// off by far more.
template <class Net>
void check_gradients(const TrainedNet<Net>& net, const std::function<at::Tensor()>& output) {
    fill_b(net.parameters(), 0.1);
    (0.5 * output().square().mean()).backward();
    const auto f = [&] {
        return 0.5 * output().to(at::kDouble).square().mean().template item<double>();
    };
    const double value = f();
    std::size_t checked_a = 0, checked_b = 0, whole = 0;
    double sum = 0.0;
    for (const auto& [name, tensor] : net.parameters()) {
        CAPTURE(name);
        REQUIRE(tensor.grad().defined());
        const at::Tensor gradient = tensor.grad().clone();
        const double length = gradient.norm().template item<double>();
        CHECK(std::isfinite(length));
        if (length < 0.05 * value) continue;
        // Where a slope is steep, its own slope is, too
        const double h = std::min(0.1, 0.015 * value / length);
        const at::Tensor bend = uniform(gradient.sizes(), -1.0, 1.0, hash_of(name));
        const at::Tensor direction = gradient / length + bend / bend.norm();
        const double expected = (gradient * direction).sum().template item<double>();
        const double off = (slope(f, tensor, direction, h) - expected) / length;
        CHECK(std::abs(off) < 3e-4);  // measured: 1.1e-4 at most
        sum += off * off;
        (name.ends_with("lora_A.weight")   ? checked_a
         : name.ends_with("lora_B.weight") ? checked_b
                                           : whole)++;
    }
    CHECK(checked_a >= 8);
    CHECK(checked_b >= 8);
    // The specification's tolerance on their root mean square
    CHECK(std::sqrt(sum / static_cast<double>(checked_a + checked_b + whole)) < 1e-4);
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("TrainedNet: adapters of B = 0 change no bit of what the network says") {
        const c10::NoGradGuard no_gradient;
        const ModelParts parts = family();
        const TrainedNet<UNet> unet(parts.unet, unet_learning(parts.unet, 3, 6, 1), cpu);
        const UNet frozen_unet = frozen_net<UNet>(parts.unet, cpu);
        CHECK(bit_equal(unet.net().forward(latents(), 999, context()),
                        frozen_unet.forward(latents(), 999, context())));
        const TrainedNet<Vae> vae(parts.vae, encoder_learning(parts.vae, 3, 6, 1), cpu);
        const Vae frozen_vae = frozen_net<Vae>(parts.vae, cpu);
        CHECK(bit_equal(vae.net().encode(pictures()).mean, frozen_vae.encode(pictures()).mean));
        CHECK(bit_equal(vae.net().encode(pictures()).logvar, frozen_vae.encode(pictures()).logvar));

        // So are the merged weights
        const NamedTensors merged = unet.merged(unet.parameters());
        CHECK(merged.size() == parts.unet.tensors.size());
        for (const auto& [name, tensor] : parts.unet.tensors) {
            CAPTURE(name);
            CHECK(bit_equal(merged.at(name), tensor));
        }
    }

    TEST_CASE("TrainedNet: what learns by name, A by seed and module, in float32") {
        const ModelParts parts = family();
        const auto parameters = [&](std::int64_t rank, std::uint64_t seed) {
            return TrainedNet<UNet>(parts.unet, unet_learning(parts.unet, rank, 6, seed), cpu)
                .parameters();
        };
        const NamedTensors p = parameters(64, 1), again = parameters(64, 1),
                           other = parameters(64, 2);
        const std::string to_q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
        REQUIRE(p.contains(to_q + ".lora_A.weight"));
        CHECK(p.contains("conv_in.weight"));
        CHECK(p.contains("conv_in.bias"));
        CHECK(p.contains("conv_in.lora_A.weight"));  // both, as OSEDiff
        CHECK_FALSE(p.contains("conv_norm_out.weight"));
        std::size_t modules = 0;
        double sum = 0.0, squares = 0.0, count = 0.0;
        for (const auto& [name, tensor] : p) {
            CAPTURE(name);
            CHECK(tensor.requires_grad());
            CHECK(tensor.is_leaf());
            CHECK((tensor.scalar_type() == at::kFloat));
            CHECK(bit_equal(tensor.detach(), again.at(name).detach()));
            if (name.ends_with(".lora_B.weight")) {
                CHECK(tensor.abs().max().item<double>() == 0.0);
            }
            if (!name.ends_with(".lora_A.weight")) continue;
            ++modules;
            CHECK_FALSE(bit_equal(tensor.detach(), other.at(name).detach()));
            const at::Tensor a = tensor.detach().to(at::kDouble) * 64.0;
            sum += a.sum().item<double>();
            squares += a.square().sum().item<double>();
            count += static_cast<double>(a.numel());
        }
        CHECK(p.size() == 2 * modules + 2);
        // N(0, 1 / rank^2): tens of thousands of numbers, so these are six deviations or more
        CHECK(count > 50'000);
        CHECK(std::abs(sum / count) < 0.03);
        CHECK(squares / count == doctest::Approx(1.0).epsilon(0.04));
    }

    TEST_CASE("TrainedNet: merged weights do what adapters beside frozen weights do") {
        const c10::NoGradGuard no_gradient;
        const ModelParts parts = family();
        const TrainedNet<UNet> unet(parts.unet, unet_learning(parts.unet, 3, 6, 1), cpu);
        fill_b(unet.parameters(), 0.2);
        at::Tensor(unet.parameters().at("conv_in.weight")).mul_(1.1);
        ModelFiles merged = parts.unet;
        merged.tensors = unet.merged(unet.parameters());
        const at::Tensor attached = unet.net().forward(latents(), 999, context());
        CHECK(relative(frozen_net<UNet>(merged, cpu).forward(latents(), 999, context()), attached) <
              1e-5);
        const at::Tensor before =
            frozen_net<UNet>(parts.unet, cpu).forward(latents(), 999, context());
        CHECK(relative(before, attached) > 1e-2);

        const TrainedNet<Vae> vae(parts.vae, encoder_learning(parts.vae, 3, 6, 1), cpu);
        fill_b(vae.parameters(), 0.2);
        merged = parts.vae;
        merged.tensors = vae.merged(vae.parameters());
        const Posterior p = vae.net().encode(pictures());
        const Posterior m = frozen_net<Vae>(merged, cpu).encode(pictures());
        CHECK(relative(m.mean, p.mean) < 1e-5);
        CHECK(relative(m.logvar, p.logvar) < 1e-5);
        CHECK(relative(frozen_net<Vae>(parts.vae, cpu).encode(pictures()).mean, p.mean) > 1e-2);

        // Other values under the same names, such as averages
        NamedTensors halves;
        for (const auto& [name, tensor] : unet.parameters()) {
            halves.emplace(name, name.ends_with("lora_B.weight") ? tensor * 0.5 : tensor);
        }
        const std::string weight = "mid_block.resnets.0.conv1.weight";
        const at::Tensor base = parts.unet.tensors.at(weight);
        const at::Tensor whole = unet.merged(unet.parameters()).at(weight) - base;
        CHECK(relative(unet.merged(halves).at(weight) - base, whole * 0.5) < 1e-5);
    }

    TEST_CASE("TrainedNet: modules that the network does not have are named") {
        const ModelParts parts = family();
        Learning learning = unet_learning(parts.unet, 3, 6, 1);
        learning.modules.push_back("mid_block.resnets.7.conv1");
        CHECK(contains(sentence_of(Fault::input,
                                   [&] { const TrainedNet<UNet> net(parts.unet, learning, cpu); }),
                       "no module mid_block.resnets.7.conv1 to adapt"));
    }

    TEST_CASE("TrainedNet: gradients of A, B and conv_in are the slopes of the function") {
        const ModelParts parts = family();
        SUBCASE("UNet") {
            const TrainedNet<UNet> unet(parts.unet, unet_learning(parts.unet, 3, 6, 1), cpu);
            const at::Tensor z = latents().narrow(0, 0, 1), c = context().narrow(0, 0, 1);
            check_gradients<UNet>(unet, [&] { return unet.net().forward(z, 999, c); });
        }
        SUBCASE("encoder") {
            const TrainedNet<Vae> vae(parts.vae, encoder_learning(parts.vae, 3, 6, 1), cpu);
            const at::Tensor x = pictures().narrow(0, 0, 1);
            check_gradients<Vae>(vae, [&] { return vae.net().encode(x).mean; });
        }
    }
}

}  // namespace ultrasr
