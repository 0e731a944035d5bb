#include "models/text/prompt.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "data/file.h"
#include "data/tensor/named_tensors.h"
#include "data/weights/checkpoint.h"
#include "tests/metrics/generated_weights.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using test::contains;
using test::sentence_of;

TEST_SUITE("unit") {
    TEST_CASE("prompt embedding: comes back as it was written, with its text") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "prompt.safetensors";
        const at::Tensor states = test::generated_tensor("input.1", {1, 77, 8});
        for (const std::string text : {"", "a photo, ½ \"sharp\""}) {
            write_prompt_embedding(path, {states, text});
            const PromptEmbedding back = read_prompt_embedding(path, 8);
            CHECK(back.states.equal(states));
            CHECK(back.text == text);
            CHECK(read_checkpoint(path).find("prompt_embeds")->shape ==
                  std::vector<std::int64_t>{77, 8});
        }
    }

    TEST_CASE("prompt embedding: [77, C] or [1, 77, C], any name and floating type") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "p.safetensors";
        const at::Tensor states = test::generated_tensor("input.2", {77, 8});
        for (const auto type : {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble}) {
            for (const at::Tensor& shaped : {states, states.unsqueeze(0)}) {
                save_tensors(path, {{"anything", shaped.to(type)}});
                const PromptEmbedding read = read_prompt_embedding(path, 8);
                CHECK((read.states.scalar_type() == at::kFloat));
                CHECK(read.states.equal(states.to(type).to(at::kFloat).unsqueeze(0)));
                CHECK(read.text.empty());
            }
        }
        write_prompt_embedding(path, {states.to(at::kHalf), ""});
        CHECK(read_prompt_embedding(path, 8).states[0].equal(states.to(at::kHalf).to(at::kFloat)));
    }

    TEST_CASE("prompt embedding: survives its file") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "p.safetensors";
        const at::Tensor states = test::generated_tensor("input.3", {1, 77, 8});
        write_prompt_embedding(path, {states, ""});
        const PromptEmbedding read = read_prompt_embedding(path, 8);
        read.states.add_(0);  // not the mapped file, into which nobody may write
        std::filesystem::remove(path);
        CHECK(read.states.equal(states));
    }

    TEST_CASE("prompt embedding: what is none is refused, with the file's name") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "p.safetensors";
        const auto error = [&](const NamedTensors& tensors) {
            save_tensors(path, tensors);
            const std::string sentence =
                sentence_of(Fault::input, [&] { read_prompt_embedding(path, 8); });
            CHECK(contains(sentence, path.string()));
            return sentence;
        };
        const at::Tensor good = at::ones({77, 8});
        CHECK(contains(error({{"a", at::ones({77, 9})}}), "is [77, 9], this model takes [77, 8]"));
        CHECK(contains(error({{"a", at::ones({76, 8})}}), "is [76, 8]"));
        CHECK(contains(error({{"a", at::ones({8, 77})}}), "is [8, 77]"));
        CHECK(contains(error({{"a", at::ones({2, 77, 8})}}), "is [2, 77, 8]"));
        CHECK(contains(error({{"a", at::ones({616})}}), "is [616]"));
        CHECK(contains(error({{"a", good}, {"b", good}}), "holds 2 tensors"));
        CHECK(contains(error({}), "holds 0 tensors"));
        CHECK(contains(error({{"ids", at::ones({1, 77}, at::kLong)}}), "token ids do not do"));
        for (const float bad :
             {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
            at::Tensor states = good.clone();
            states[76][7] = bad;
            CHECK(contains(error({{"a", states}}), "NaN or infinite"));
            CHECK(contains(sentence_of(Fault::internal,
                                       [&] {
                                           write_prompt_embedding(path, {states, ""});
                                       }),
                           "bad values"));
        }
        CHECK(contains(sentence_of(Fault::internal,
                                   [&] {
                                       write_prompt_embedding(path, {at::ones({5, 8}), ""});
                                   }),
                       "shape [5, 8]"));
        const auto missing = folder.path() / "none.safetensors";
        CHECK(contains(sentence_of(Fault::input, [&] { read_prompt_embedding(missing, 8); }),
                       missing.string()));
    }

    TEST_CASE(
        "prompt text: the whole file of the picture's name; an empty one is the empty prompt") {
        const test::TemporaryFolder folder;
        const auto text = [&](const std::string& bytes) {
            write_file(folder.path() / "0001.png.txt", bytes);
            return read_prompt_text(folder.path(), "0001.png");
        };
        CHECK(text("a red house, ½\n") == "a red house, ½");
        CHECK(text("two\nlines\r\n\r\n") == "two\nlines");
        CHECK(text("\xEF\xBB\xBF"
                   "marked") == "marked");
        CHECK(text("") == "");
        CHECK(text("\n") == "");
    }

    TEST_CASE("prompt text: a missing file is named") {
        const test::TemporaryFolder folder;
        CHECK(contains(sentence_of(Fault::input, [&] { read_prompt_text(folder.path(), "0002"); }),
                       "no prompt file " + (folder.path() / "0002.txt").string()));
    }
}
