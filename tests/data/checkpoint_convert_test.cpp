#include "data/weights/convert.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/weights/half.h"
#include "tests/data/pickles.h"
#include "tests/data/tensor_values.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

/// The neighbour of a non-negative finite 16-bit number, as a double.
template <class Value>
double value_of(std::uint16_t bits, Value value) {
    return static_cast<double>(value(bits));
}

/// Narrowing by search: of the two finite numbers around v the nearer one, the even one in a tie.
template <class Value>
std::uint16_t nearest(double v, std::uint16_t infinity, Value value) {
    std::uint16_t low = 0, high = infinity;
    while (high - low > 1) {
        const auto middle = static_cast<std::uint16_t>((low + high) / 2);
        (value_of(middle, value) <= v ? low : high) = middle;
    }
    // Beyond the largest number the next one counts as if the format went on
    const double below = value_of(low, value);
    const double above =
        high == infinity ? below + (below - value_of(static_cast<std::uint16_t>(low - 1), value))
                         : value_of(high, value);
    if (v - below != above - v) return v - below < above - v ? low : high;
    return low % 2 == 0 ? low : high;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("half: all 65536 bit patterns of both formats survive widening and narrowing") {
        int wrong = 0;
        for (std::uint32_t i = 0; i < 65536; ++i) {
            const auto bits = static_cast<std::uint16_t>(i);
            const float f16 = float16_value(bits), bf16 = bfloat16_value(bits);
            // A NaN comes back quiet
            const std::uint16_t f16_back = std::isnan(f16) ? bits | 0x0200 : bits;
            const std::uint16_t bf16_back = std::isnan(bf16) ? bits | 0x0040 : bits;
            wrong += float16_bits(static_cast<double>(f16)) != f16_back;
            wrong += bfloat16_bits(static_cast<double>(bf16)) != bf16_back;
            wrong += std::bit_cast<std::uint32_t>(bf16) != i << 16;
        }
        CHECK(wrong == 0);
    }

    TEST_CASE("half: known numbers") {
        CHECK(float16_value(0x3c00) == 1.0f);
        CHECK(float16_value(0xc000) == -2.0f);
        CHECK(float16_value(0x7bff) == 65504.0f);
        CHECK(float16_value(0x0001) == 0x1p-24f);
        CHECK(float16_value(0x03ff) == 0x3ffp-24f);
        CHECK(std::isinf(float16_value(0x7c00)));
        CHECK(std::signbit(float16_value(0x8000)));
        CHECK(float16_bits(65519.99) == 0x7bff);
        CHECK(float16_bits(65520) == 0x7c00);  // half way to the number that is not there
        CHECK(float16_bits(-1e300) == 0xfc00);
        CHECK(float16_bits(0x1p-25) == 0x0000);  // a tie, 0 is even
        CHECK(float16_bits(0x1.0000001p-25) == 0x0001);
        CHECK(float16_bits(-1e-300) == 0x8000);
        CHECK(float16_bits(std::numeric_limits<double>::denorm_min()) == 0);
        CHECK(float16_bits(0x1.ff8p-15) == 0x03ff);
        CHECK(float16_bits(0x1.ffcp-15) == 0x0400);  // a tie that becomes normal
        // By way of float32 this would be rounded twice
        CHECK(float16_bits(1 + 0x1p-11 + 0x1p-40) == 0x3c01);
        CHECK(bfloat16_bits(1 + 0x1p-8) == 0x3f80);
        CHECK(bfloat16_bits(1 + 0x3p-8) == 0x3f82);
        CHECK(bfloat16_bits(3.4e38) == 0x7f80);
        CHECK(bfloat16_bits(0x1p-133) == 0x0001);
    }

    TEST_CASE("convert: every format becomes a safetensors file with the same tensors") {
        const test::TemporaryFolder folder;
        for (const char* name :
             {"views.pth", "legacy.pth", "script.pt", "plain.safetensors", "types.pth"}) {
            CAPTURE(name);
            const fs::path from = test::golden(std::string("checkpoints/") + name);
            const fs::path to = folder.path() / "out.safetensors";
            const Converted done = convert_checkpoint({.from = from, .to = to, .dtype = {}});
            const Checkpoint before = read_checkpoint(from), after = read_checkpoint(to);
            CHECK(after.format() == CheckpointFormat::safetensors);
            CHECK(done.tensors == before.tensors().size());
            CHECK(done.cast == 0);
            REQUIRE(after.tensors().size() == before.tensors().size());
            for (const TensorView& t : before.tensors()) {
                const TensorView* other = after.find(t.name);
                REQUIRE(other);
                CHECK(other->dtype == t.dtype);
                CHECK(other->shape == t.shape);
                CHECK(std::equal(t.bytes.begin(), t.bytes.end(), other->bytes.begin(),
                                 other->bytes.end()));
            }
            CHECK(after.metadata().at("source_file") == name);
            CHECK(after.metadata().at("source_sha256") == sha256_of_file(from));
            CHECK(done.to_sha256 == sha256_of_file(to));
        }
        convert_checkpoint({.from = test::golden("checkpoints/training.pth"),
                            .to = folder.path() / "t.safetensors",
                            .dtype = {}});
        const Checkpoint training = read_checkpoint(folder.path() / "t.safetensors");
        CHECK(parse_json(training.metadata().at("extras"), "extras")["rank_unet"] == 4);
    }

    TEST_CASE("convert: only floating-point tensors take another type") {
        const test::TemporaryFolder folder;
        const fs::path to = folder.path() / "out.safetensors";
        const Converted done = convert_checkpoint(
            {.from = test::golden("checkpoints/types.pth"), .to = to, .dtype = Dtype::f16});
        const Checkpoint after = read_checkpoint(to);
        CHECK(done.cast == 3);  // f64, f32, bf16
        for (const char* name : {"float64", "float32", "float16", "bfloat16"}) {
            CHECK(after.find(name)->dtype == Dtype::f16);
        }
        CHECK(after.find("int64")->dtype == Dtype::i64);
        CHECK(after.find("bool")->dtype == Dtype::boolean);
        CHECK(done.rounded == 0);  // multiples of 1/8
        CHECK(test::values_of(*after.find("float64")) ==
              test::values_of(
                  *read_checkpoint(test::golden("checkpoints/types.pth")).find("float64")));
    }

    TEST_CASE("convert: what rounding changes and what becomes infinite is counted") {
        const std::vector<double> numbers{1, 1 + 0x1p-20, 70000,
                                          std::numeric_limits<double>::infinity(),
                                          std::numeric_limits<double>::quiet_NaN()};
        const TensorView tensor{.name = "t",
                                .dtype = Dtype::f64,
                                .shape = {5},
                                .bytes = std::as_bytes(std::span(numbers))};
        Converted count;
        const auto f16 = cast_tensor(tensor, Dtype::f16, count);
        CHECK(f16.size() == 10);
        CHECK(count.rounded == 1);
        CHECK(count.overflowed == 1);
        Converted f32;
        cast_tensor(tensor, Dtype::f32, f32);
        CHECK(f32.rounded == 0);
        CHECK(f32.overflowed == 0);
    }

    TEST_CASE("convert: a file is not replaced by itself, one without tensors not written") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "a.safetensors";
        fs::copy_file(test::golden("checkpoints/plain.safetensors"), path);
        try {
            convert_checkpoint(
                {.from = path, .to = folder.path() / "." / "a.safetensors", .dtype = {}});
            FAIL("was converted");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::usage);
        }
        const fs::path empty = folder.path() / "empty.pth";
        write_safetensors(empty, {}, {});
        try {
            convert_checkpoint({.from = empty, .to = folder.path() / "b.safetensors", .dtype = {}});
            FAIL("was converted");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::input);
            CHECK_FALSE(fs::exists(folder.path() / "b.safetensors"));
        }
        const std::string id = test::storage("0", "torch\nFloatStorage", 1);
        const fs::path reserved = folder.path() / "reserved.pth";
        write_file(
            reserved,
            test::torch_file(test::dict_pickle({{"__metadata__", test::tensor(id, 0, {1}, {1})}}),
                             {"1234"}));
        try {
            convert_checkpoint(
                {.from = reserved, .to = folder.path() / "b.safetensors", .dtype = {}});
            FAIL("was converted");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::input);
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("half: narrowing picks the nearest number, the even one in a tie") {
        Rng rng(3, 0);
        int wrong = 0;
        for (int i = 0; i < 20'000; ++i) {
            // Between neighbours, at and beside the middle, over all exponents
            const auto f16 = static_cast<std::uint16_t>(rng.below(0x7bff));
            const auto bf16 = static_cast<std::uint16_t>(rng.below(0x7f7f));
            const std::array places{0.5, 0.5 - 0x1p-30, 0.5 + 0x1p-30, rng.uniform()};
            const double place = places[rng.below(4)];
            const auto between = [&](double a, double b) { return a + (b - a) * place; };
            const double v = between(value_of(f16, float16_value),
                                     value_of(static_cast<std::uint16_t>(f16 + 1), float16_value));
            const double w =
                between(value_of(bf16, bfloat16_value),
                        value_of(static_cast<std::uint16_t>(bf16 + 1), bfloat16_value));
            wrong += float16_bits(v) != nearest(v, 0x7c00, float16_value);
            wrong += float16_bits(-v) != (nearest(v, 0x7c00, float16_value) | 0x8000);
            wrong += bfloat16_bits(w) != nearest(w, 0x7f80, bfloat16_value);
        }
        CHECK(wrong == 0);
    }
}
