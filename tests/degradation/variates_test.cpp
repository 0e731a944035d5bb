// Random words, and the normal and Poisson numbers made of them.
#include "degradation/steps/variates.h"

#include <array>

#include "data/base/philox.h"
#include "degradation/steps/exact_math.h"
#include "degradation/steps/noise.h"
#include "tests/degradation/steps.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

struct KnownAnswer {
    std::array<std::uint32_t, 4> counter;
    std::array<std::uint32_t, 2> key;
    std::array<std::uint32_t, 4> words;
};

/// Random123's, as in degradation.md 4.1.
constexpr std::uint32_t ones = 0xFFFFFFFF;
const std::array known_answers{
    KnownAnswer{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    KnownAnswer{
        {ones, ones, ones, ones}, {ones, ones}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    KnownAnswer{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                {0xa4093822, 0x299f31d0},
                {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};

/// The normal quantile by Newton's method on erfc, from the lower tail p < 0.5: positive.
double tail_quantile(double p) {
    double z = 0;
    for (int i = 0; i < 60; ++i) {
        const double q = 0.5 * std::erfc(z / std::numbers::sqrt2);
        const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi);
        const double step = (q - p) / density;
        z += std::clamp(step, -1.0, 1.0);
        if (std::abs(step) < 1e-14) break;
    }
    return z;
}

std::uint32_t word_at(std::uint32_t i) {
    return stream_words<1>({.seed = 9, .id = 4}, 0, i / 4).word[i % 4][0];
}

const PoissonEntry& entry_of(int v, int k) {
    int log_v = 0;
    while (1 << log_v < v) ++log_v;
    return poisson_table().entries[log_v * 256 + k];
}

int count_of(std::uint32_t word, int v, int k) {
    return poisson_of_word(word, entry_of(v, k), poisson_table().thresholds);
}

TEST_SUITE("unit") {
    TEST_CASE("philox_: the published answers, one counter or eight side by side") {
        for (const KnownAnswer& known : known_answers) {
            PhiloxWords<1> one;
            PhiloxWords<8> eight;
            for (std::size_t w = 0; w < 4; ++w) {
                one.word[w][0] = known.counter[w];
                for (std::uint32_t i = 0; i < 8; ++i) {  // the known one among others
                    eight.word[w][i] = i == 5 ? known.counter[w] : 100 * i + known.counter[w];
                }
            }
            philox_(one, known.key[0], known.key[1]);
            philox_(eight, known.key[0], known.key[1]);
            for (std::size_t w = 0; w < 4; ++w) {
                CHECK(one.word[w][0] == known.words[w]);
                CHECK(eight.word[w][5] == known.words[w]);
            }
        }
    }

    TEST_CASE("stream_words: the counter's fields lie where degradation.md 4.1 says") {
        const StreamKey key{.seed = 0x1111222233334444,
                            .id = 0xAAAABBBBCCCC,
                            .variant = 0xDDDD,
                            .slot = 0x0081,
                            .level = 0x0E};
        PhiloxWords<1> words;
        words.word[0][0] = 77;
        words.word[1][0] = 0x020E0081;
        words.word[2][0] = 0xBBBBCCCC;
        words.word[3][0] = 0xDDDDAAAA;
        philox_(words, 0x33334444, 0x11112222);
        const PhiloxWords<8> ours = stream_words<8>(key, 2, 75);
        for (int w = 0; w < 4; ++w) CHECK(ours.word[w][2] == words.word[w][0]);
    }

    TEST_CASE("normal_of_word: within 6e-7 of the quantile of (m + 1/2) / 2^32") {
        const auto check = [](std::uint32_t m) {
            const double wanted = tail_quantile((m + 0.5) / 0x1p32);
            const double z = normal_of_word(m, normal_table);
            CAPTURE(m);
            CHECK(std::abs(z - wanted) <= 6e-7);
            CHECK(normal_of_word(m | 0x80000000U, normal_table) == -static_cast<float>(z));
        };
        for (std::uint32_t octave = 0; octave < 31; ++octave) {
            const std::uint32_t first = 1U << octave;
            for (std::uint32_t i = 0; i < 64; ++i) {  // all cells, both of their ends
                const std::uint64_t m = first + (std::uint64_t{first} * i >> 6);
                check(static_cast<std::uint32_t>(m));
                if (m > first) check(static_cast<std::uint32_t>(m - 1));
            }
        }
        for (std::uint32_t i = 0; i < 2000; ++i) {
            const std::uint32_t m = word_at(i) & 0x7FFFFFFFU;
            if (m > 0) check(m);
        }
    }

    TEST_CASE("normal_of_word: the extremes are finite, and 0 is as 1") {
        CHECK(normal_of_word(0, normal_table) == normal_of_word(1, normal_table));
        const float most = normal_of_word(1, normal_table);
        CHECK(most < 6.2F);
        CHECK(most > 6.1F);
        CHECK(normal_of_word(0x80000001U, normal_table) == -most);
        CHECK(std::abs(normal_of_word(0x7FFFFFFFU, normal_table)) < 1e-6F);
        // Falling along the word, over every border of an octave and a cell
        float before = most;
        for (std::uint32_t octave = 0; octave < 31; ++octave) {
            for (std::uint32_t i = 0; i < 512; ++i) {
                const std::uint64_t m = (1U << octave) + ((std::uint64_t{1} << octave) * i >> 9);
                const float z = normal_of_word(static_cast<std::uint32_t>(m), normal_table);
                REQUIRE(z <= before + 6e-7F);
                before = z;
            }
        }
    }

    TEST_CASE("poisson_table: pinned, so that no machine makes another one") {
        const PoissonTable& table = poisson_table();
        std::uint64_t h = 0xcbf29ce484222325;
        const auto mix = [&](std::uint32_t word) {
            for (int i = 0; i < 4; ++i, word >>= 8) h = (h ^ (word & 0xFF)) * 0x100000001b3;
        };
        // What each entry owns, however the list is laid out
        int count = 0;
        for (int i = 0; i < poisson_entries; ++i) {
            const PoissonEntry& entry = table.entries[i];
            for (std::uint32_t t = 0; t < entry.thresholds; ++t, ++count) {
                mix(table.thresholds[entry.offset + t]);
            }
        }
        CHECK(count == 109288);
        CHECK(h == 0x8e465c8cca2bc71aULL);
        for (int i = 0; i < poisson_entries; ++i) {
            mix(table.entries[i].first);
            mix(table.entries[i].thresholds);
        }
        CHECK(h == 0xd3d7d577786a32deULL);
    }

    TEST_CASE(
        "poisson_of_word: the thresholds are the distribution function, to a word's rounding") {
        for (const auto& [v, k] : {std::pair{1, 0},
                                   {1, 1},
                                   {1, 255},
                                   {2, 200},
                                   {16, 3},
                                   {64, 128},
                                   {256, 1},
                                   {256, 128},
                                   {256, 255}}) {
            CAPTURE(v);
            CAPTURE(k);
            const PoissonEntry& entry = entry_of(v, k);
            const double lambda = v * k / 255.0;
            double below = 0;
            for (int n = 0; n <= entry.first + entry.thresholds; ++n) {
                below += std::exp(-lambda + (lambda > 0 ? n * std::log(lambda) : 0.0) -
                                  std::lgamma(n + 1.0));
                if (n < entry.first) {
                    CHECK(below * 0x1p32 < 0.5001);
                    continue;
                }
                if (n == entry.first + entry.thresholds) break;  // all words but half a one
                const std::uint32_t t =
                    poisson_table()
                        .thresholds[entry.offset + static_cast<std::uint32_t>(n) - entry.first];
                REQUIRE(std::abs(t - below * 0x1p32) <= 0.51);  // libm's part: 0.01
            }
            CHECK((1 - below) * 0x1p32 < 0.5001);
        }
    }

    TEST_CASE("poisson_of_word: the guide changes nothing; the ends of the words") {
        const std::uint32_t* thresholds = poisson_table().thresholds;
        for (int i = 0; i < poisson_entries; i += 7) {
            const PoissonEntry& entry = poisson_table().entries[i];
            const auto slow = [&](std::uint32_t word) {
                int n = 0;
                while (n < entry.thresholds &&
                       thresholds[entry.offset + static_cast<unsigned>(n)] <= word) {
                    ++n;
                }
                return entry.first + n;
            };
            for (std::uint32_t w = 0; w < 64; ++w) {
                const std::uint32_t word = w < 32 ? w << 27 : word_at(w + static_cast<unsigned>(i));
                REQUIRE(poisson_of_word(word, entry, thresholds) == slow(word));
            }
            REQUIRE(poisson_of_word(0xFFFFFFFFU, entry, thresholds) == slow(0xFFFFFFFFU));
        }
        CHECK(count_of(0, 256, 0) == 0);  // black has no photons
        CHECK(count_of(0xFFFFFFFFU, 256, 0) == 0);
    }
}

TEST_SUITE("property") {
    TEST_CASE("normal_of_word: moments to the fourth of a million words") {
        std::vector<double> z;
        for (std::uint32_t b = 0; b < 1 << 15; ++b) {
            const auto words = stream_words<8>({.seed = 5}, 0, 8 * b);
            for (const auto& word : words.word) {
                for (const std::uint32_t w : word) z.push_back(normal_of_word(w, normal_table));
            }
        }
        const test::Moments m = test::moments(z);
        const double n = static_cast<double>(z.size());  // limits: four standard errors
        CHECK(std::abs(m.mean) < 4 / std::sqrt(n));
        CHECK(std::abs(m.variance - 1) < 4 * std::sqrt(2 / n));
        CHECK(std::abs(m.skewness) < 4 * std::sqrt(6 / n));
        CHECK(std::abs(m.kurtosis - 3) < 4 * std::sqrt(24 / n));
        // A hundred cells of equal odds
        std::vector<double> counts(100);
        for (const double v : z) {
            const double p = 0.5 * std::erfc(-v / std::numbers::sqrt2);
            ++counts[std::min<std::size_t>(static_cast<std::size_t>(100 * p), 99)];
        }
        CHECK(test::counts_odds(counts, std::vector<double>(100, n / 100)) > 1e-3);
    }

    TEST_CASE("poisson_of_word: mean, variance and shape for dark to bright, few to many photons") {
        const std::uint32_t n = 200000;
        std::vector<std::uint32_t> words;
        for (std::uint32_t b = 0; b < n / 4; ++b) {
            const auto block = stream_words<1>({.seed = 6, .slot = 128}, 0, b);
            for (const auto& word : block.word) words.push_back(word[0]);
        }
        for (const auto& [v, k] : {std::pair{1, 1},
                                   {1, 128},
                                   {1, 255},
                                   {2, 30},
                                   {8, 64},
                                   {32, 200},
                                   {128, 17},
                                   {256, 1},
                                   {256, 77},
                                   {256, 255}}) {
            CAPTURE(v);
            CAPTURE(k);
            const double lambda = v * k / 255.0;
            std::vector<double> counts, histogram(400);
            for (const std::uint32_t word : words) {
                const int count = count_of(word, v, k);
                counts.push_back(count);
                ++histogram[static_cast<std::size_t>(count)];
            }
            const test::Moments m = test::moments(counts);
            CHECK(std::abs(m.mean - lambda) < 4 * std::sqrt(lambda / n));
            // Var of the sample variance: (2 lambda^2 + lambda) / n
            CHECK(std::abs(m.variance - lambda) <
                  4 * std::sqrt((2 * lambda * lambda + lambda) / n));
            std::vector<double> expected;
            for (std::size_t i = 0; i < histogram.size(); ++i) {
                const auto c = static_cast<double>(i);
                expected.push_back(n *
                                   std::exp(-lambda + c * std::log(lambda) - std::lgamma(c + 1)));
            }
            CHECK(test::counts_odds(histogram, expected) > 1e-3);
        }
    }
}

}  // namespace
}  // namespace ultrasr
