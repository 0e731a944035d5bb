// CLIPIQA's parts by hand, its scores against pyiqa's with weights by formula.
#include "metrics/clipiqa.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "data/base/error.h"
#include "data/tensor/named_tensors.h"
#include "metrics/nets/clip_text.h"
#include "tests/metrics/generated_weights.h"
#include "tests/metrics/network_goldens.h"
#include "tests/metrics/pictures.h"
#include "tests/sentence.h"
#include "tests/test.h"

namespace ultrasr {

extern const MetricInfo clipiqa, clipiqa_plus;

namespace {

using test::contains, test::sentence_of;

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
    REQUIRE(a.sizes() == b.sizes());
    return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// One object for all cases: its weights take a second to make.
const Metric& generated(const MetricInfo& info) {
    static std::map<std::string, MetricPtr> made;
    MetricPtr& metric = made[info.name];
    if (!metric) metric = info.make(test::network_options());
    return *metric;
}

TEST_SUITE("unit") {
    TEST_CASE("attend_once: as attention with the keys and values of all positions") {
        const c10::InferenceMode guard;
        constexpr std::int64_t width = 64, heads = 4, n = 13;
        const at::Tensor tokens = at::randn({n, width}), query = at::randn({width});
        const at::Tensor key_weight = at::randn({width, width}) / 8.0,
                         value_weight = at::randn({width, width}) / 8.0,
                         key_bias = at::randn({width}), value_bias = at::randn({width});
        const auto by_head = [&](const at::Tensor& x) {
            return x.view({1, -1, heads, width / heads}).transpose(1, 2);
        };
        const at::Tensor expected =
            at::scaled_dot_product_attention(by_head(query),
                                             by_head(at::linear(tokens, key_weight, key_bias)),
                                             by_head(at::linear(tokens, value_weight, value_bias)))
                .reshape({width});
        const double scale = 1.0 / std::sqrt(static_cast<double>(width / heads));
        CHECK(largest_difference(
                  attend_once(tokens, query * scale, key_weight, value_weight, value_bias, heads),
                  expected) < 3e-6);
    }

    TEST_CASE("ClipImage: sides halve five times, the first time upwards") {
        const c10::InferenceMode guard;
        auto weights = test::generated_clip_weights();
        const ClipImage net(weights, {});
        struct Case {
            std::int64_t side, maps;
        };
        for (const auto [side, expected] : {Case{31, 1}, Case{62, 1}, Case{63, 2}, Case{64, 2},
                                            Case{94, 2}, Case{95, 3}, Case{97, 3}}) {
            CAPTURE(side);
            const at::Tensor maps = net.maps(at::rand({1, 3, 31, side}));
            CHECK(maps.sizes() == at::IntArrayRef({1, 2048, 1, expected}));
        }
    }

    TEST_CASE("ClipImage: the norms add 1e-5 to the variance") {
        // Variance 0 and gains times sqrt(1e-5), against variance 1 - 1e-5: the same network
        const c10::InferenceMode guard;
        const auto made = [](bool vanishing) {
            return StateDict([vanishing](const std::string& name, at::IntArrayRef shape) {
                if (name.ends_with("running_var")) {
                    return at::full(shape, vanishing ? 0.0 : 1.0 - 1e-5, at::kFloat);
                }
                const at::Tensor values = test::generated_tensor(name, shape);
                const bool gain = shape.size() == 1 && name.ends_with("weight");
                return gain && vanishing ? values * std::sqrt(1e-5) : values;
            });
        };
        auto a = made(true), b = made(false);
        const at::Tensor picture = at::rand({1, 3, 64, 64});
        const at::Tensor expected = ClipImage(b, {}).maps(picture);
        CHECK(largest_difference(ClipImage(a, {}).maps(picture), expected) <
              1e-4 * expected.abs().max().item<double>());
    }

    TEST_CASE("ClipText: the norms add 1e-5 to the variance") {
        // Blocks that add nothing, positions of zero: the last norm sees the prompt, variance 9e-6
        const c10::InferenceMode guard;
        const auto make = [](const std::string& name, at::IntArrayRef shape) {
            const bool nothing = name.starts_with("transformer.") ||
                                 name == "positional_embedding" || name == "token_embedding.weight";
            return nothing ? at::zeros(shape) : test::generated_tensor(name, shape);
        };
        StateDict weights(make);
        const ClipText text(weights, {});
        const at::Tensor prompt = at::randn({3, 512}) * 3e-3;
        const auto in_double = [&](const std::string& name, at::IntArrayRef shape) {
            return make(name, shape).to(at::kDouble);
        };
        const at::Tensor expected = at::matmul(
            at::layer_norm(prompt[2].to(at::kDouble), {512}, in_double("ln_final.weight", {512}),
                           in_double("ln_final.bias", {512}), 1e-5),
            in_double("text_projection", {512, 1024}));
        CHECK(largest_difference(text.forward({prompt})[0], expected) < 1e-4);
    }

    TEST_CASE("ClipText: a prompt means the same alone and beside a longer one") {
        const c10::InferenceMode guard;
        auto weights = test::generated_clip_weights();
        const ClipText text(weights, {});
        const auto prompt = [&](std::vector<std::int64_t> ids) {
            ids.insert(ids.begin(), ClipText::start_token);
            ids.push_back(ClipText::end_token);
            return text.embed(ids);
        };
        const at::Tensor a = prompt({886, 2867}), b = prompt({9307, 268, 1139, 2867, 7, 8, 9});
        const at::Tensor both = text.forward({a, b});
        CHECK(both.sizes() == at::IntArrayRef({2, ClipText::features}));
        const double size = both.abs().max().item<double>();
        CHECK(largest_difference(both.narrow(0, 0, 1), text.forward({a})) < 1e-5 * size);
        CHECK(largest_difference(both.narrow(0, 0, 1), text.forward({prompt({2867, 886})})) >
              1e-2 * size);  // the order of tokens counts
        const std::string sentence = sentence_of(
            Fault::input, [&] { text.forward({prompt(std::vector<std::int64_t>(76, 5))}); });
        CHECK(contains(sentence, "78"));
        CHECK(contains(sentence, "77"));
    }

    TEST_CASE("clipiqa: a side of 31 is enough, 30 is an error that says so") {
        const auto small = test::picture("texture", {200, 30});
        for (const MetricInfo* info : {&clipiqa, &clipiqa_plus}) {
            CAPTURE(info->name);
            const std::string sentence =
                sentence_of(Fault::input, [&] { generated(*info).score(small.sr, Image()); });
            CHECK(contains(sentence, info->name));
            CHECK(contains(sentence, "31"));
            CHECK(contains(sentence, "200x30"));
            const double score =
                generated(*info).score(test::picture("texture", {31, 33}).sr, Image());
            CHECK(score > 0.0);
            CHECK(score < 1.0);
        }
    }

    TEST_CASE("clipiqa+: records of both files") {
        const auto provenance = generated(clipiqa_plus).provenance();
        std::vector<std::string> files;
        for (const WeightRecord& record : provenance.weights) files.push_back(record.file);
        CHECK(files ==
              std::vector<std::string>{"CLIP-IQA+_learned_prompts-603f3273.pth", "RN50.pt"});
    }

    TEST_CASE("clipiqa+: one context for both prompts is the same as two equal ones") {
        /// Serves the prompts from memory, CLIP by formula.
        struct Prompts final : WeightSource {
            at::Tensor tensor;
            StateDict open(std::string_view file) const override {
                if (file == "RN50.pt") return test::generated_clip_weights();
                return StateDict({{"root", tensor}}, std::string(file));
            }
        };
        const auto pair = test::picture("texture", {40, 33});
        const auto score = [&](const at::Tensor& tensor) {
            auto source = std::make_shared<Prompts>();
            source->tensor = tensor;
            auto options = test::network_options();
            options.source = source;
            return clipiqa_plus.make(options)->score(pair.sr, Image());
        };
        const at::Tensor two = test::generated_tensor("ctx", {2, 16, 512});
        const at::Tensor one = two[0].clone();
        const double shared = score(one);
        CHECK(shared == score(at::stack({one, one})));
        CHECK(shared != score(two));
        CHECK(
            contains(sentence_of(Fault::input, [&] { score(one.narrow(0, 0, 15)); }), "[15, 512]"));
    }

    TEST_CASE("clipiqa: a checkpoint of something else is an error that names metric and file") {
        const test::TemporaryFolder folder;
        save_tensors(folder.path() / "RN50.pt",
                     {{"visual.proj", at::ones({2, 2})},
                      {"visual.bn1.num_batches_tracked", at::ones({}, at::kLong)},
                      {"input_resolution", at::ones({}, at::kLong)}});
        MetricOptions options;
        options.weights = {.weights = folder.path(), .unverified_weights = true};
        const std::string sentence = sentence_of(Fault::input, [&] { clipiqa.make(options); });
        CAPTURE(sentence);
        CHECK(contains(sentence, "clipiqa (RN50.pt)"));
        CHECK(contains(sentence, "missing (visual.conv1.weight"));
        CHECK(contains(sentence, "1 surplus (visual.proj)"));  // counters and sizes may be there
    }
}

TEST_SUITE("golden") {
    /// With ULTRASR_FULL_GOLDEN set every row; else small pictures and the texture up to 301x237.
    void check_rows(const MetricInfo& info) {
        double worst = 0;
        int rows = 0;
        for (const auto& row : test::network_goldens(info.name)) {
            const int pixels = row.size.width * row.size.height;
            const bool kept = pixels < 10'000 || (row.kind == "texture" && pixels <= 301 * 237);
            if (!kept && !std::getenv("ULTRASR_FULL_GOLDEN")) continue;
            CAPTURE(row.kind);
            CAPTURE(row.size.width);
            const auto pair = test::picture(row.kind, row.size);
            const double difference = std::abs(generated(info).score(pair.sr, Image()) - row.value);
            CHECK(difference < 1e-5);  // metrics.md 0.7; measured over all rows 1.7e-6 and 2.2e-6
            worst = std::max(worst, difference);
            ++rows;
        }
        CHECK(rows >= 11);
        MESSAGE(info.name << ": largest difference " << worst << " of " << rows << " rows");
    }

    TEST_CASE("clipiqa: pyiqa's scores within 1e-5") { check_rows(clipiqa); }
    TEST_CASE("clipiqa+: pyiqa's scores within 1e-5") { check_rows(clipiqa_plus); }

    TEST_CASE("clipiqa: bf16 stays within 0.01 of float32") {
        // Rounded to 8 bits, 53 convolutions in a row; measured 3e-4
        const auto pair = test::picture("texture", {97, 64});
        MetricOptions options = test::network_options();
        options.compute.precision = Precision::bf16;
        const double value = clipiqa.make(options)->score(pair.sr, Image());
        const double expected = generated(clipiqa).score(pair.sr, Image());
        CHECK(std::abs(value - expected) < 0.01);
        CHECK(value != expected);
    }
}

}  // namespace
}  // namespace ultrasr
