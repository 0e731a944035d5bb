// What each stage learns, what it leaves alone, and what its loss depends on.
#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/function.h>

#include <cmath>
#include <limits>
#include <set>
#include <unordered_set>

#include "data/file.h"
#include "models/training/optimizer.h"
#include "models/training/stage_parts.h"
#include "tests/models/training_fixture.h"
#include "tests/sentence.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

namespace fs = std::filesystem;
using test::backward;
using test::bit_equal;
using test::contains;
using test::formula_batch;
using test::hashes_of;
using test::LossAndGradients;
using test::Outcome;
using test::outcome_of;
using test::sentence_of;
using test::stage_of;
using test::tiny_run;
using test::training_ground;
using test::with_settings;

double number(const NamedNumbers& numbers, const std::string& name) {
    for (const auto& [key, value] : numbers) {
        if (key == name) return value;
    }
    return std::numeric_limits<double>::quiet_NaN();
}

bool has(const NamedNumbers& numbers, const std::string& name) {
    return std::ranges::any_of(numbers, [&](const auto& pair) { return pair.first == name; });
}

double length(const NamedTensors& tensors) {
    double sum = 0.0;
    for (const auto& [name, tensor] : tensors) {
        sum += tensor.to(at::kDouble).square().sum().item<double>();
    }
    return std::sqrt(sum);
}

/// |a - b| / |b| of gradients; all names have to be the same.
double off(const NamedTensors& a, const NamedTensors& b) {
    CHECK(a.size() == b.size());
    for (const auto& [name, tensor] : b) CHECK(a.contains(name));
    return test::distance(a, b) / length(b);
}

/// Modules that adapters of these names sit on: their weights may change.
std::set<std::string> adapted(const Learning& learning, const std::string& prefix) {
    std::set<std::string> names;
    for (const std::string& module : learning.modules) names.insert(prefix + module + ".weight");
    return names;
}

/// Every tensor of `before` is there, and changed if `may_change` has it, else the same bits.
void check_changed(const NamedTensors& before, const NamedTensors& after, const std::string& prefix,
                   const std::function<bool(const std::string&)>& changes) {
    std::size_t changed = 0, same = 0;
    for (const auto& [name, tensor] : before) {
        if (!name.starts_with(prefix)) continue;
        CAPTURE(name);
        REQUIRE(after.contains(name));
        const at::Tensor& now = after.at(name);
        CHECK(now.isfinite().all().item<bool>());
        CHECK(bit_equal(tensor, now) != changes(name));
        ++(changes(name) ? changed : same);
    }
    CHECK(changed + same > 0);
    std::size_t others = 0;
    for (const auto& [name, tensor] : after) others += name.starts_with(prefix);
    CHECK(others == changed + same);
}

/// Nodes of the graph that a loss hangs on.
std::size_t graph_size(const at::Tensor& loss) {
    std::vector<const torch::autograd::Node*> open{loss.grad_fn().get()};
    std::unordered_set<const torch::autograd::Node*> seen;
    while (!open.empty()) {
        const torch::autograd::Node* node = open.back();
        open.pop_back();
        if (!node || !seen.insert(node).second) continue;
        for (const auto& edge : node->next_edges()) open.push_back(edge.function.get());
    }
    return seen.size();
}

std::size_t levels_of(std::string_view stage) {
    return stage == "teacher" ? 1 : stage == "rsd" ? 2 : stage == "dml" ? 3 : 0;
}

/// Settings as tiny_run, VSD on where there is one.
Json full_run(std::string_view stage) {
    return with_settings(tiny_run(stage), {{"teacher_stage.lambda_vsd", 1.0}, {"loss.vsd", 0.5}});
}

void step(LearningStage& stage, std::vector<AdamW>& optimisers) {
    for (const ParameterGroup& group : stage.groups()) clip_gradients(group.tensors, 1.0);
    for (AdamW& optimiser : optimisers) {
        optimiser.step();
        optimiser.zero_grad();
    }
}

std::vector<AdamW> optimisers_of(const LearningStage& stage, double rate) {
    std::vector<AdamW> all;
    for (const ParameterGroup& group : stage.groups()) {
        all.emplace_back(group.tensors, AdamWOptions{.learning_rate = rate});
    }
    return all;
}

}  // namespace

// ---- what changes ----

TEST_SUITE("unit") {
    TEST_CASE("stage vae: every tensor of the VAE learns, the rest of the family is copied") {
        const fs::path base = training_ground().family;
        const auto before = hashes_of(base);
        const test::TemporaryFolder folder;
        const Outcome made = outcome_of(tiny_run("vae"), folder.path() / "run");
        CHECK(hashes_of(base) == before);
        check_changed(test::networks_in(base), made.tensors, "vae.",
                      [](const std::string&) { return true; });
        auto after = hashes_of(folder.path() / "run/base");
        for (const auto& [name, hash] : before) {
            CAPTURE(name);
            if (name.starts_with("vae/") || name == "init.json" || name == "model_index.json") {
                continue;
            }
            CHECK(after[name] == hash);
        }
        // The new scale makes latents of variance 1
        const auto json = [](const fs::path& path) { return parse_json(read_file(path), "json"); };
        Json config = json(folder.path() / "run/base/vae/config.json");
        const double scale = config.at("scaling_factor");
        config["scaling_factor"] = json(base / "vae/config.json").at("scaling_factor");
        CHECK(config == json(base / "vae/config.json"));
        CHECK(scale != config.at("scaling_factor"));
        const ModelParts parts = read_family(folder.path() / "run/base");
        const c10::NoGradGuard no_gradient;
        const Posterior p = frozen_net<Vae>(parts.vae, {}).encode(formula_batch(4, 0).hr);
        CHECK(p.mean.std().item<double>() > 0.5);
        CHECK(p.mean.std().item<double>() < 2.0);
    }

    TEST_CASE("stage base: every tensor of the UNet learns, the rest of the family is copied") {
        const fs::path base = training_ground().family;
        const auto before = hashes_of(base);
        const test::TemporaryFolder folder;
        const Outcome made = outcome_of(tiny_run("base"), folder.path() / "run");
        CHECK(hashes_of(base) == before);
        check_changed(test::networks_in(base), made.tensors, "unet.",
                      [](const std::string&) { return true; });
        auto after = hashes_of(folder.path() / "run/base");
        for (const auto& [name, hash] : before) {
            CAPTURE(name);
            if (name.starts_with("unet/") || name == "init.json" || name == "model_index.json") {
                continue;
            }
            CHECK(after[name] == hash);
        }
    }

    TEST_CASE("stage teacher: adapted modules of encoder and UNet, conv_in, and nothing else") {
        const fs::path base = training_ground().family;
        const auto before = hashes_of(base);
        const Outcome made = outcome_of(full_run("teacher"));
        CHECK(hashes_of(base) == before);
        const ModelParts parts = read_family(base);
        const auto vae = adapted(encoder_learning(parts.vae, 4, 8, 0), "vae.");
        const auto unet = adapted(unet_learning(parts.unet, 4, 8, 0), "unet.");
        for (const std::string& name : vae) {
            CAPTURE(name);
            CHECK((name.starts_with("vae.encoder.") || name == "vae.quant_conv.weight"));
        }
        const NamedTensors start = test::networks_in(base);
        check_changed(start, made.tensors, "vae.",
                      [&](const std::string& name) { return vae.contains(name); });
        check_changed(start, made.tensors, "unet.", [&](const std::string& name) {
            return unet.contains(name) || name.starts_with("unet.conv_in.");
        });
    }

    TEST_CASE("stage dml: adapted modules of the encoder, and nothing else") {
        const test::TrainingGround& g = training_ground();
        const auto base = hashes_of(g.family), teacher = hashes_of(g.teacher);
        const test::TemporaryFolder folder;
        const Outcome made = outcome_of(tiny_run("dml"), folder.path() / "run");
        CHECK(hashes_of(g.family) == base);
        CHECK(hashes_of(g.teacher) == teacher);
        const ModelParts parts = read_family(g.family);
        const auto vae = adapted(encoder_learning(parts.vae, 16, 16, 0), "vae.");
        check_changed(test::networks_in(g.teacher), made.tensors, "vae.",
                      [&](const std::string& name) { return vae.contains(name); });
        for (const auto& [name, tensor] : made.tensors) CHECK(name.starts_with("vae."));
        CHECK_FALSE(fs::exists(folder.path() / "run/encoder/unet.safetensors"));

        // The mean is compared: the variances' half of quant_conv has no gradient
        const std::string quant = "vae.quant_conv.weight";
        const at::Tensor was = test::networks_in(g.teacher).at(quant), is = made.tensors.at(quant);
        CHECK(bit_equal(was.narrow(0, 4, 4), is.narrow(0, 4, 4)));
        CHECK_FALSE(bit_equal(was.narrow(0, 0, 4), is.narrow(0, 0, 4)));
    }

    TEST_CASE("stage rsd: adapted modules of the UNet, conv_in, and nothing else") {
        const test::TrainingGround& g = training_ground();
        const auto base = hashes_of(g.family), teacher = hashes_of(g.teacher),
                   encoder = hashes_of(g.encoder);
        const Outcome made = outcome_of(full_run("rsd"));
        CHECK(hashes_of(g.family) == base);
        CHECK(hashes_of(g.teacher) == teacher);
        CHECK(hashes_of(g.encoder) == encoder);
        check_changed(test::networks_in(g.encoder), made.tensors, "vae.",
                      [](const std::string&) { return false; });
        const ModelParts parts = read_family(g.family);
        const auto unet = adapted(unet_learning(parts.unet, 32, 32, 0), "unet.");
        check_changed(test::networks_in(g.family), made.tensors, "unet.",
                      [&](const std::string& name) {
                          return unet.contains(name) || name.starts_with("unet.conv_in.");
                      });
    }

    TEST_CASE("stage dml: an encoder that is given is used, not trained over") {
        const test::TrainingGround& g = training_ground();
        const auto encoder = hashes_of(g.encoder);
        Json run = with_settings(tiny_run("dml"), {{"encoder", g.encoder.string()}});
        run["stage"] = "dml,rsd";
        const test::TemporaryFolder folder;
        const Outcome made = outcome_of(run, folder.path() / "run");
        CHECK(hashes_of(g.encoder) == encoder);
        REQUIRE(made.reports.size() == 1);
        CHECK(made.reports[0].stage == "rsd");
    }

    TEST_CASE("a model that is passed on: the student's file holds what validation saw") {
        const test::TemporaryFolder folder;
        const Outcome made = outcome_of(tiny_run("rsd"), folder.path() / "run");
        const ModelParts student =
            read_one_step(folder.path() / "run/student", training_ground().family);
        CHECK(student.timestep == 999);
        REQUIRE(student.prompt);
        // As the stage's validation computes it, from the files alone
        const c10::NoGradGuard no_gradient;
        Json again = with_settings(
            tiny_run("rsd"),
            {{"teacher", (folder.path() / "run/student").string()}, {"rsd.init", "teacher"}});
        const auto stage = stage_of("rsd", again);
        const MicroBatch batch = formula_batch(2, 2);
        const Validation v = stage->validate(batch);
        const Vae vae = frozen_net<Vae>(student.vae, {});
        const UNet unet = frozen_net<UNet>(student.unet, {});
        const at::Tensor c = Prompts(train_settings(again, "x"), training_ground().family,
                                     student.prompt, 8, c10::Device(c10::kCPU))
                                 .constant()
                                 .expand({2, -1, -1});
        const at::Tensor z = vae.encode(batch.lr_up[1]).mean;
        const at::Tensor x =
            vae.decode(student.schedule().clean_latent(z, unet.forward(z, 999, c), 999));
        for (const SampleColumn& column : v.pictures) {
            if (column.title != "student") continue;
            CHECK((column.pictures - x).abs().max().item<double>() < 1e-5);
        }
        CHECK(std::isfinite(made.reports[0].loss));
    }
}

// ---- what it does ----

TEST_SUITE("property") {
    TEST_CASE("stage dml: 200 steps bring moderate latents nearer to mild ones than severe ones") {
        const auto stage =
            stage_of("dml", with_settings(tiny_run("dml"), {{"learning_rate", 1e-3}}));
        std::vector<AdamW> optimisers = optimisers_of(*stage, 1e-3);
        MicroBatch batch = formula_batch(8, 3);
        const StageLoss before = stage->loss(batch);
        for (int k = 0; k < 200; ++k) {
            batch.first = static_cast<std::uint64_t>(8 * k);  // other pairs each time
            stage->loss(batch).total.backward();
            step(*stage, optimisers);
        }
        batch.first = 0;
        const StageLoss after = stage->loss(batch);
        const auto ratio = [](const StageLoss& loss) {
            return number(loss.more, "distance_positive") / number(loss.more, "distance_severe");
        };
        CHECK(ratio(after) < 0.7 * ratio(before));
        CHECK(after.total.item<double>() < 0.7 * before.total.item<double>());
        CHECK(number(after.more, "triplet_accuracy") >= number(before.more, "triplet_accuracy"));
    }

    TEST_CASE("stage rsd: 60 steps bring the student's picture nearer to what teaches it") {
        const auto stage = stage_of("rsd", tiny_run("rsd"));
        std::vector<AdamW> optimisers = optimisers_of(*stage, 3e-3);
        const MicroBatch batch = formula_batch(4, 2);
        const double before = stage->loss(batch).total.item<double>();
        for (int k = 0; k < 60; ++k) {
            stage->loss(batch).total.backward();
            step(*stage, optimisers);
        }
        const double after = stage->loss(batch).total.item<double>();
        CHECK(after < 0.8 * before);
    }

    TEST_CASE("stage dml: Eq. 7's second term as printed hardly has a gradient") {
        const auto gradient = [](const char* neg2) {
            const auto stage =
                stage_of("dml", with_settings(tiny_run("dml"), {{"dml.neg2", neg2}}));
            // Away from E_S = E_T, whose moderate latents are a special place
            std::vector<AdamW> optimisers = optimisers_of(*stage, 1e-2);
            return backward(*stage, formula_batch(4, 3)).gradients;
        };
        const NamedTensors first = gradient("off");
        CHECK(off(gradient("as_printed"), first) < 1e-3);
        CHECK(off(gradient("ratio"), first) > 1e-1);
    }

    TEST_CASE("stage rsd: without noise injection nothing is drawn") {
        const MicroBatch here = formula_batch(2, 2, 0), there = formula_batch(2, 2, 1000);
        const auto loss = [](const Json& changes, const MicroBatch& batch) {
            return stage_of("rsd", with_settings(tiny_run("rsd"), changes))
                ->loss(batch)
                .total.item<double>();
        };
        // Another seed draws other adapters, too, which add nothing yet
        const Json none = {{"rsd.ni", false}};
        const Json reseeded = {{"rsd.ni", false}, {"seed", 7u}};
        CHECK(loss(none, here) == loss(none, there));
        CHECK(loss(none, here) == loss(reseeded, here));
        const Json usual = Json::object();
        CHECK(loss(usual, here) == loss(usual, here));
        CHECK(loss(usual, here) != loss(usual, there));
        CHECK(loss(usual, here) != loss({{"seed", 7u}}, here));
    }

    TEST_CASE("stage rsd: lambda_hard = 0 leaves nothing of HR in it, not even a NaN") {
        MicroBatch usual = formula_batch(2, 2), nan = usual, other = usual;
        nan.hr = at::full_like(usual.hr, std::numeric_limits<float>::quiet_NaN());
        other.hr = 1.0 - usual.hr;
        const Json soft_only = with_settings(tiny_run("rsd"), {{"loss.lambda_hard", 0.0}});
        const LossAndGradients a = backward(*stage_of("rsd", soft_only), usual);
        const LossAndGradients b = backward(*stage_of("rsd", soft_only), nan);
        CHECK(std::isfinite(a.loss.total.item<double>()));
        CHECK(bit_equal(a.loss.total, b.loss.total));
        REQUIRE(a.gradients.size() == b.gradients.size());
        CHECK(length(a.gradients) > 0.0);
        for (const auto& [name, tensor] : a.gradients) {
            CAPTURE(name);
            CHECK(bit_equal(tensor, b.gradients.at(name)));
        }
        const auto usual_loss = [](const MicroBatch& batch) {
            return stage_of("rsd", tiny_run("rsd"))->loss(batch).total.item<double>();
        };
        CHECK(usual_loss(usual) != usual_loss(other));
        CHECK(std::isnan(usual_loss(nan)));
    }

    TEST_CASE("stage rsd: theta's mean is kappa, and without RSD there is no theta") {
        const MicroBatch batch = formula_batch(3, 2);
        for (const double kappa : {0.2, 1.0 / 3.0}) {
            const StageLoss loss =
                stage_of("rsd", with_settings(tiny_run("rsd"), {{"theta.kappa", kappa}}))
                    ->loss(batch);
            // The clamp at 1 is far off: Softplus spans a factor of 4.2 and means 0.7
            CHECK(number(loss.more, "theta_mean") == doctest::Approx(kappa).epsilon(1e-5));
        }
        const StageLoss flat =
            stage_of("rsd",
                     with_settings(tiny_run("rsd"), {{"rsd.ue", false}, {"theta.kappa", 0.25}}))
                ->loss(batch);
        CHECK(number(flat.more, "theta_mean") == doctest::Approx(0.25).epsilon(1e-6));

        const StageLoss none =
            stage_of("rsd", with_settings(tiny_run("rsd"), {{"rsd.enabled", false}}))->loss(batch);
        CHECK_FALSE(has(none.more, "theta_mean"));
        CHECK(none.total.item<double>() ==
              doctest::Approx(number(none.parts, "soft") + 1.5 * number(none.parts, "hard")));
        // A constant theta of 0: full weight on the teacher, no noise, which is w/o RSD, w/o hard
        const StageLoss zero =
            stage_of("rsd",
                     with_settings(tiny_run("rsd"), {{"rsd.ue", false}, {"theta.kappa", 0.0}}))
                ->loss(batch);
        CHECK(number(zero.parts, "soft") ==
              doctest::Approx(number(none.parts, "soft")).epsilon(1e-6));

        // It is logged, too
        const Outcome made = outcome_of(tiny_run("rsd"));
        REQUIRE(made.log.size() == 3);
        for (const LogLine& line : made.log) {
            CHECK(number(line.more, "theta_mean") == doctest::Approx(1.0 / 3.0).epsilon(1e-4));
        }
    }

    TEST_CASE("stage dml: distances and accuracies are logged") {
        const Outcome made = outcome_of(tiny_run("dml"));
        REQUIRE(made.log.size() == 3);
        for (const LogLine& line : made.log) {
            for (const char* name : {"distance_positive", "distance_severe", "distance_unrelated",
                                     "triplet_accuracy", "triplet_accuracy_unrelated"}) {
                CAPTURE(name);
                CHECK(number(line.more, name) >= 0.0);
            }
            CHECK(number(line.more, "triplet_accuracy") <= 1.0);
        }
        for (const char* name :
             {"val_triplet_accuracy", "val_distance_ratio", "val_psnr_decoded"}) {
            CAPTURE(name);
            CHECK(std::isfinite(number(made.log.back().more, name)));
        }
    }

    TEST_CASE("validation: no noise, whatever the seed (A20)") {
        const MicroBatch batch = formula_batch(2, 2, 0), elsewhere = formula_batch(2, 2, 500);
        const auto figures = [](const Json& changes, const MicroBatch& b) {
            return stage_of("rsd", with_settings(tiny_run("rsd"), changes))->validate(b).figures;
        };
        CHECK(figures(Json::object(), batch) == figures({{"seed", 7u}}, elsewhere));
    }

    // ---- memory and numbers ----

    TEST_CASE("gradient checkpointing: loss and gradients as without, but for rounding") {
        // Not bit for bit: blocks whose results are not kept run without gradients, which fuses and
        // cuts their layers otherwise, and a map that is read in several places has its gradients
        // summed in another order
        for (const std::string_view name : stage_names) {
            CAPTURE(name);
            const MicroBatch batch = formula_batch(2, levels_of(name));
            const Json plain = full_run(name);
            const Json spared = with_settings(plain, {{"gradient_checkpointing", true}});
            const auto a = stage_of(name, plain), b = stage_of(name, spared);
            const LossAndGradients x = backward(*a, batch), y = backward(*b, batch);
            CHECK(y.loss.total.item<double>() ==
                  doctest::Approx(x.loss.total.item<double>()).epsilon(2e-6));
            CHECK(off(y.gradients, x.gradients) < 1e-5);
            CHECK(length(x.gradients) > 0.0);
            // It is done, not ignored
            CHECK(graph_size(b->loss(batch).total) < graph_size(a->loss(batch).total) * 9 / 10);
        }
    }

    TEST_CASE("gradients: every tensor that learns gets one, in every stage") {
        for (const std::string_view name : stage_names) {
            CAPTURE(name);
            const auto stage = stage_of(name, full_run(name));
            std::vector<AdamW> optimisers = optimisers_of(*stage, 1e-3);
            const MicroBatch batch = formula_batch(2, levels_of(name));
            stage->loss(batch).total.backward();  // A has none before B has left 0
            step(*stage, optimisers);
            const LossAndGradients g = backward(*stage, batch);
            std::size_t groups = 0;
            for (const ParameterGroup& group : stage->groups()) {
                ++groups;
                for (const auto& [tensor, values] : group.tensors) {
                    CAPTURE(tensor);
                    REQUIRE(g.gradients.contains(group.name + "/" + tensor));
                    const at::Tensor& d = g.gradients.at(group.name + "/" + tensor);
                    CHECK(d.isfinite().all().item<bool>());
                    CHECK(d.abs().max().item<double>() > 0.0);
                }
            }
            CHECK(groups == (name == "teacher" || name == "rsd" ? 2 : 1));
        }
    }

    TEST_CASE("VSD: each group's gradient is its own share's") {
        // The regulariser's loss must not reach the generator, nor the generator's the regulariser
        const MicroBatch batch = formula_batch(2, 1);
        const auto gradients = [&](double weight) {
            return backward(
                       *stage_of("teacher",
                                 with_settings(tiny_run("teacher"),
                                               {{"teacher_stage.lambda_vsd", weight},
                                                {"teacher_stage.negative_prompt", "blurred"}})),
                       batch)
                .gradients;
        };
        const NamedTensors none = gradients(0.0), little = gradients(1e-30), much = gradients(2.0);
        NamedTensors own_little, own_much, second_little, second_much;
        for (const auto& [name, tensor] : little)
            (name.starts_with("/") ? own_little : second_little).emplace(name, tensor);
        for (const auto& [name, tensor] : much)
            (name.starts_with("/") ? own_much : second_much).emplace(name, tensor);
        CHECK(off(own_little, none) < 1e-6);
        CHECK(off(own_much, none) > 1e-2);
        REQUIRE(!second_little.empty());
        CHECK(off(second_much, second_little) < 1e-6);
    }

    TEST_CASE("precision: bf16 follows float32") {
        for (const std::string_view name : {"rsd", "dml"}) {
            CAPTURE(name);
            const Json run = with_settings(tiny_run(name), {{"steps", 20}});
            const Outcome a = outcome_of(run),
                          b = outcome_of(with_settings(run, {{"precision", "bf16"}}));
            REQUIRE(a.log.size() == 20);
            REQUIRE(b.log.size() == 20);
            double worst = 0.0;
            for (std::size_t i = 0; i < 20; ++i) {
                const double x = a.log[i].losses[0].second, y = b.log[i].losses[0].second;
                worst = std::max(worst, std::abs(y / x - 1.0));
            }
            CHECK(worst < 0.02);  // measured: 0.0025 and 0.0045
            CHECK(worst > 0.0);
        }
    }

    // ---- micro-batches ----

    TEST_CASE("micro-batches: gradients of a batch whatever it is cut into") {
        const Json run = tiny_run("rsd");
        const Outcome whole = outcome_of(run);
        const double moved =
            test::distance(whole.tensors, outcome_of(with_settings(run, {{"steps", 0}})).tensors);
        for (const int size : {1, 2}) {
            CAPTURE(size);
            const Outcome cut = outcome_of(with_settings(run, {{"micro_batch", size}}));
            for (std::size_t i = 0; i < 3; ++i) {
                CHECK(cut.log[i].losses[0].second ==
                      doctest::Approx(whole.log[i].losses[0].second).epsilon(1e-5));
                CHECK(*cut.log[i].gradient_norm ==
                      doctest::Approx(*whole.log[i].gradient_norm).epsilon(1e-4));
            }
            // AdamW divides by the gradient's size: where that is near 0, rounding shows most
            CHECK(test::distance(whole.tensors, cut.tensors) < 2e-3 * moved);
        }
        // A stage's own setting, each stage
        for (const std::string stage : {"vae", "base", "teacher", "rsd"}) {
            CAPTURE(stage);
            const Json usual = full_run(stage);
            const std::string section = stage == "rsd" ? stage : stage + "_stage";
            const Outcome a = outcome_of(usual),
                          b = outcome_of(with_settings(usual, {{section + ".micro_batch", 2}}));
            CHECK(b.record.at(section).at("micro_batch") == 2);
            for (std::size_t i = 0; i < 3; ++i) {
                CHECK(b.log[i].losses[0].second ==
                      doctest::Approx(a.log[i].losses[0].second).epsilon(1e-3));
            }
        }
    }

    TEST_CASE("micro-batches: dml pairs pictures inside of one") {
        const auto stage = stage_of("dml", tiny_run("dml"));
        const MicroBatch four = formula_batch(4, 3);
        const auto cut = [&](std::int64_t from, std::uint64_t first) {
            MicroBatch part = four;
            part.first = first;
            part.hr = four.hr.narrow(0, from, 2);
            for (at::Tensor& level : part.lr_up) level = level.narrow(0, from, 2);
            return part;
        };
        // Of two, each is the other's: nothing is drawn
        CHECK(bit_equal(stage->loss(cut(0, 0)).total, stage->loss(cut(0, 17)).total));
        // Of four, it is one of three shifts
        std::set<double> losses;
        for (std::uint64_t first = 0; first < 60; first += 4) {
            MicroBatch batch = four;
            batch.first = first;
            losses.insert(stage->loss(batch).total.item<double>());
        }
        CHECK(losses.size() == 3);
        // The first term is a mean over pictures, whatever is paired: without the second one, two
        // halves make the whole
        const auto first_term =
            stage_of("dml", with_settings(tiny_run("dml"), {{"dml.neg2", "off"}}));
        const double halves = (first_term->loss(cut(0, 0)).total.item<double>() +
                               first_term->loss(cut(2, 2)).total.item<double>()) /
                              2;
        CHECK(halves == doctest::Approx(first_term->loss(four).total.item<double>()).epsilon(1e-6));

        // In a run: the stage's own setting as the run's, and not the whole batch's pairs
        const Outcome a = outcome_of(with_settings(tiny_run("dml"), {{"micro_batch", 2}}));
        const Outcome b = outcome_of(with_settings(tiny_run("dml"), {{"dml.micro_batch", 2}}));
        const Outcome c = outcome_of(tiny_run("dml"));
        CHECK(a.log[0].losses[0].second == b.log[0].losses[0].second);
        CHECK(std::abs(a.log[0].losses[0].second / c.log[0].losses[0].second - 1.0) > 1e-3);
    }

    TEST_CASE("student_precision: the same student, its files rounded") {
        const NamedTensors whole = outcome_of(tiny_run("rsd")).tensors;
        for (const auto& [word, type] : {std::pair("fp16", at::kHalf), {"bf16", at::kBFloat16}}) {
            const NamedTensors half =
                outcome_of(with_settings(tiny_run("rsd"), {{"student_precision", word}})).tensors;
            CHECK(half.size() == whole.size());
            for (const auto& [name, tensor] : whole) {
                CAPTURE(name);
                CHECK(bit_equal(half.at(name), tensor.to(type)));
            }
        }
    }

    TEST_CASE("ema: averages are written") {
        const Json run = with_settings(tiny_run("rsd"), {{"steps", 1}});
        const NamedTensors start = test::networks_in(training_ground().family);
        const NamedTensors one = outcome_of(run).tensors;
        const NamedTensors average = outcome_of(with_settings(run, {{"ema", 0.75}})).tensors;
        const at::Tensor w0 = start.at("unet.conv_in.bias"), w1 = one.at("unet.conv_in.bias");
        const at::Tensor expected = 0.75 * w0 + 0.25 * w1;
        CHECK((average.at("unet.conv_in.bias") - expected).abs().max().item<double>() < 1e-7);
        CHECK((w1 - w0).abs().max().item<double>() > 1e-4);
        // B begins as 0 and A has no gradient then: a quarter of B, all of A
        const std::string weight = "unet.mid_block.resnets.0.conv1.weight";
        const at::Tensor whole = one.at(weight) - start.at(weight);
        const at::Tensor quarter = average.at(weight) - start.at(weight);
        CHECK((quarter - 0.25 * whole).abs().max().item<double>() <
              1e-2 * whole.abs().max().item<double>());
    }

    // ---- not a number ----

    TEST_CASE("NaN: a step without a finite loss is skipped, counted and changes nothing") {
        // A base whose UNet says more than float32 holds
        const test::TemporaryFolder folder;
        const fs::path base = folder.path() / "family";
        fs::copy(training_ground().family, base, fs::copy_options::recursive);
        NamedTensors unet = load_tensors(base / "unet/diffusion_pytorch_model.safetensors");
        unet["conv_out.bias"] = at::full_like(unet.at("conv_out.bias"), 3e38);
        save_tensors(base / "unet/diffusion_pytorch_model.safetensors", unet, {{"format", "pt"}});
        const NamedTensors start = test::networks_in(base);
        for (const double ema : {0.0, 0.5}) {
            const Outcome made =
                outcome_of(with_settings(tiny_run("rsd"), {{"base", base.string()}, {"ema", ema}}));
            REQUIRE(made.log.size() == 3);
            for (std::size_t i = 0; i < 3; ++i) {
                CHECK(std::isnan(made.log[i].losses[0].second));
                CHECK(made.log[i].skipped == static_cast<std::int64_t>(i + 1));
            }
            CHECK(made.reports[0].skipped == 3);
            CHECK(std::isnan(made.reports[0].loss));
            for (const auto& [name, tensor] : start) {
                if (!name.starts_with("unet.")) continue;
                CAPTURE(name);
                CHECK(bit_equal(tensor, made.tensors.at(name)));
            }
        }
    }

    TEST_CASE("NaN: steps after a bad one leave what the good ones made") {
        // A rate that sends the weights out of float32's reach in one step
        for (const double ema : {0.0, 0.5}) {
            CAPTURE(ema);
            const Json run =
                with_settings(tiny_run("rsd"), {{"learning_rate", 1e30}, {"ema", ema}});
            const Outcome made = outcome_of(run);
            const Outcome one = outcome_of(with_settings(run, {{"steps", 1}}));
            CHECK(one.reports[0].skipped == 0);
            CHECK(made.reports[0].skipped == 2);
            CHECK(made.log[0].skipped == 0);
            CHECK(std::isfinite(made.log[0].losses[0].second));
            for (const auto& [name, tensor] : one.tensors) {
                CAPTURE(name);
                CHECK(bit_equal(tensor, made.tensors.at(name)));
            }
        }
    }
}

}  // namespace ultrasr
