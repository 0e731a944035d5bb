#include "models/text/tokenizer.h"

#include <algorithm>
#include <functional>
#include <set>
#include <nlohmann/json.hpp>

#include "data/base/json.h"
#include "data/base/random.h"
#include "data/file.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace std::string_literals;
using test::contains;
using test::sentence_of;

namespace {

constexpr std::int64_t bos = 617, eos = 618, vocabulary = 619;  // of tests/golden/text_files
using Ids = std::vector<std::int64_t>;

/// A copy of one of the golden folders to change.
class Folder {
  public:
    explicit Folder(const std::string& name = "text_files") {
        std::filesystem::copy(test::golden(name), temporary_.path(),
                              std::filesystem::copy_options::recursive);
    }
    std::filesystem::path operator/(const std::string& name) const {
        return temporary_.path() / name;
    }
    void write(const std::string& name, const std::string& text) const {
        write_file(*this / name, text);
    }
    void remove(const std::string& name) const { std::filesystem::remove(*this / name); }
    /// Changes a JSON file.
    void edit(const std::string& name, const std::function<void(Json&)>& change) const {
        Json json = parse_json(read_file(*this / name), name);
        change(json);
        write(name, dump_json(json));
    }
    Tokenizer tokenizer() const { return Tokenizer::from_folder(temporary_.path()); }
    std::string error() const {
        return sentence_of(Fault::input, [&] { tokenizer(); });
    }

  private:
    test::TemporaryFolder temporary_;
};

/// The ids of the text alone: without start, end and filling.
Ids inner(const Tokenizer& tokenizer, std::string_view text) {
    const Ids ids = tokenizer.encode(text);
    REQUIRE(ids.front() == tokenizer.bos());
    auto last = ids.rbegin();
    if (tokenizer.pad() != tokenizer.eos()) {
        last = std::find(ids.rbegin(), ids.rend(), tokenizer.eos());
    } else {
        while (std::next(last) != ids.rend() && *std::next(last) == tokenizer.eos()) ++last;
    }
    return {ids.begin() + 1, last.base() - 1};
}

/// A tokenizer of the 256 bytes, their endings and these merges; ids of merges from 512 on.
Tokenizer of_merges(const std::vector<std::pair<std::string, std::string>>& merges) {
    const Folder folder;
    Json vocab = parse_json(read_file(folder / "vocab.json"), "vocab.json");
    for (auto token = vocab.begin(); token != vocab.end();) {
        const auto id = token.value().get<std::int64_t>();
        token = id >= 512 && id < bos ? vocab.erase(token) : std::next(token);
    }
    std::string lines = "#version: 0.2\n";
    std::int64_t next = 512;
    for (const auto& [left, right] : merges) {
        if (!vocab.contains(left + right)) vocab[left + right] = next++;
        lines += left + " " + right + "\n";
    }
    folder.write("vocab.json", vocab.dump());
    folder.write("merges.txt", lines);
    return folder.tokenizer();
}

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE(
        "tokenizer: ids are those of transformers for every text, from both kinds of folder") {
        const Json golden = parse_json(read_file(test::golden("text_tokens.json")), "golden");
        REQUIRE(golden["pairs"].size() >= 250);
        for (const char* folder : {"text_files", "text_json"}) {
            const Tokenizer tokenizer = Tokenizer::from_folder(test::golden(folder));
            CHECK(tokenizer.bos() == golden["bos"]);
            CHECK(tokenizer.eos() == golden["eos"]);
            CHECK(tokenizer.pad() == golden["pad"]);
            CHECK(tokenizer.max_length() == golden["length"]);
            for (const Json& pair : golden["pairs"]) {
                CAPTURE(folder);
                CAPTURE(pair[0].dump());
                Ids expected = pair[1].get<Ids>();
                expected.resize(golden["length"].get<std::size_t>(),
                                golden["pad"].get<std::int64_t>());
                CHECK(tokenizer.encode(pair[0].get<std::string>()) == expected);
            }
        }
    }
}

TEST_SUITE("unit") {
    TEST_CASE("tokenizer: start, text, end, then the map's filling, in exactly 77 ids") {
        const Ids empty = Tokenizer::from_folder(test::golden("text_files")).encode("");
        Ids expected(77, 0);
        expected[0] = bos, expected[1] = eos;
        CHECK(empty == expected);

        const Ids full =
            Tokenizer::from_folder(test::golden("text_files")).encode(std::string(1000, '7'));
        REQUIRE(full.size() == 77);
        CHECK(full.front() == bos);
        CHECK(full.back() == eos);
        CHECK(std::count(full.begin(), full.end(), full[1]) == 75);
    }

    TEST_CASE("tokenizer: the filling is the map's, else the config's, else CLIP's") {
        const Folder folder;
        CHECK(folder.tokenizer().pad() == 0);
        folder.remove("special_tokens_map.json");
        CHECK(folder.tokenizer().pad() == eos);  // the config disagrees with the map
        folder.edit("tokenizer_config.json", [](Json& config) { config["pad_token"] = "?"; });
        CHECK(folder.tokenizer().pad() == 30);
        folder.edit("tokenizer_config.json", [](Json& config) { config.erase("pad_token"); });
        CHECK(folder.tokenizer().pad() == eos);
        folder.remove("tokenizer_config.json");
        const Tokenizer bare = folder.tokenizer();
        CHECK(std::vector{bare.bos(), bare.eos(), bare.pad()} == std::vector{bos, eos, eos});
        CHECK(bare.max_length() == 77);
        CHECK(inner(bare, "?!") == Ids{30, 256});  // "!" is an ordinary word now
    }

    TEST_CASE("tokenizer: with added_tokens_decoder the config is the whole truth") {
        const Folder folder;
        folder.edit("tokenizer_config.json", [](Json& config) {
            config["added_tokens_decoder"] = {
                {"617", {{"content", "<|startoftext|>"}, {"normalized", true}, {"special", true}}},
                {"900", {{"content", "<photo>"}, {"normalized", false}, {"special", false}}}};
        });
        const Tokenizer tokenizer = folder.tokenizer();
        CHECK(tokenizer.pad() == eos);
        CHECK(inner(tokenizer, "a<photo>b<|StartOfText|>") == Ids{320, 900, 321, bos});
    }

    TEST_CASE("tokenizer: capitals make a special token only where its entry says normalized") {
        const Folder folder;
        CHECK(inner(folder.tokenizer(), "a <|StartOfText|> b") == Ids{320, bos, 321});
        folder.edit("special_tokens_map.json",
                    [](Json& map) { map["bos_token"] = "<|startoftext|>"; });
        CHECK(inner(folder.tokenizer(), "a <|startoftext|> b") == Ids{320, bos, 321});
        // As transformers has it, too: three words
        CHECK(inner(folder.tokenizer(), "a <|StartOfText|> b") ==
              Ids{320, 27, 347, 523, 518, 83, 78, 69, 83, 68, 87, 339, 613, 321});
    }

    TEST_CASE("tokenizer: the longest length is the config's; an absurd one means 77") {
        const Folder folder;
        const auto length = [&](const Json& value) {
            folder.edit("tokenizer_config.json",
                        [&](Json& config) { config["model_max_length"] = value; });
            return folder.tokenizer().encode("a photo of the house").size();
        };
        CHECK(length(16) == 16);
        CHECK(length(2) == 2);
        CHECK(length(1e30) == 77);
        CHECK(length(nullptr) == 77);
        CHECK(contains(
            (length(77),
             folder.edit("tokenizer_config.json", [](Json& c) { c["model_max_length"] = 1; }),
             folder.error()),
            "model_max_length is 1"));
        folder.edit("tokenizer_config.json", [](Json& c) { c["model_max_length"] = 16; });
        CHECK(folder.tokenizer().encode("1234567890123456789")[15] == eos);
    }

    TEST_CASE("tokenizer: the lowest rank is merged first, of equal ones the leftmost") {
        // Rank decides, not place: b c before a b
        CHECK(inner(of_merges({{"b", "c"}, {"a", "b"}}), "abcd") == Ids{64, 512, 67 + 256});
        CHECK(inner(of_merges({{"a", "b"}, {"b", "c"}}), "abcd") == Ids{512, 66, 67 + 256});
        // Place decides among equals
        CHECK(inner(of_merges({{"a", "a"}}), "aaab") == Ids{512, 64, 65 + 256});
        // A neighbour that has grown since is another pair: a b is not to be had any more
        CHECK(inner(of_merges({{"b", "c"}, {"a", "b"}, {"a", "bc"}}), "abcd") ==
              Ids{514, 67 + 256});
        // A pair just made comes before the next occurrence of its own kind: (ab a) b, not (ab)(ab)
        CHECK(inner(of_merges({{"ab", "a"}, {"a", "b"}}), "ababc") == (Ids{512, 65, 66 + 256}));
    }

    TEST_CASE("tokenizer: the last symbol of a word is another one, </w>, and merges apart") {
        const Tokenizer tokenizer = of_merges({{"a", "b</w>"}});
        CHECK(inner(tokenizer, "ab abc") == Ids{512, 64, 65, 66 + 256});
        CHECK(inner(tokenizer, "é") == Ids{127, 102 + 256});  // two bytes, the second ends the word
    }

    TEST_CASE("tokenizer: a byte that the vocabulary lacks is the unknown token") {
        const Folder folder;
        folder.edit("vocab.json", [](Json& vocab) { vocab.erase("7</w>"); });
        CHECK(inner(folder.tokenizer(), "6 7 8") == Ids{277, eos, 279});
    }

    TEST_CASE("tokenizer: bytes that are no UTF-8 count as U+FFFD") {
        const Tokenizer tokenizer = Tokenizer::from_folder(test::golden("text_files"));
        const std::string mark = "\xEF\xBF\xBD";
        CHECK(tokenizer.encode("caf\xE9 bar") ==
              tokenizer.encode("caf" + mark + " bar"));  // Latin-1
        CHECK(tokenizer.encode("\xFF\xFE") == tokenizer.encode(mark + mark));
        CHECK(tokenizer.encode("a\xE2\x82") == tokenizer.encode("a" + mark));
        CHECK(tokenizer.encode("\xED\xA0\x80") == tokenizer.encode(mark + mark + mark));
        CHECK(tokenizer.encode("a\xE9") != tokenizer.encode("a"));
    }

    TEST_CASE("tokenizer: a word of a million letters takes no more than a moment") {
        const Tokenizer tokenizer = of_merges({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}});
        const Ids ids = tokenizer.encode(std::string(1'000'000, 'a'));
        CHECK(std::count(ids.begin(), ids.end(), 514) == 75);
    }

    TEST_CASE("tokenizer: a missing file is named, with what a folder needs") {
        CHECK(contains(sentence_of(Fault::input, [] { Tokenizer::from_folder("/nowhere/x"); }),
                       "no tokenizer folder /nowhere/x"));
        for (const char* name : {"vocab.json", "merges.txt"}) {
            const Folder folder;
            folder.remove(name);
            CHECK(contains(folder.error(), name + " is missing"s));
            CHECK(contains(folder.error(), "or tokenizer.json"));
        }
    }

    TEST_CASE("tokenizer: broken files are named, with the place") {
        const auto broken = [](const std::string& name, const std::string& text,
                               const std::string& kind = "text_files") {
            const Folder folder(kind);
            folder.write(name, text);
            const std::string sentence = folder.error();
            CHECK(contains(sentence, name));
            return sentence;
        };
        CHECK(contains(broken("vocab.json", "{\"a\": 1"), "is not valid JSON"));
        CHECK(contains(broken("vocab.json", "[]"), "no vocabulary"));
        CHECK(contains(broken("vocab.json", "{\"a\": -1}"), "the id of token 'a' is -1"));
        CHECK(contains(broken("vocab.json", "{\"a\": \"x\"}"), "the id of token 'a' is \"x\""));
        CHECK(contains(broken("merges.txt", "#version: 0.2\nq z\na b c\n"), "line 3"));
        CHECK(contains(broken("merges.txt", "a\n"), "line 1"));
        CHECK(contains(broken("merges.txt", "a \n"), "line 1"));
        CHECK(contains(broken("tokenizer_config.json", "nul"), "is not valid JSON"));
        CHECK(contains(broken("special_tokens_map.json", "3"), "no JSON object"));
        CHECK(contains(broken("tokenizer.json", "{}", "text_json"), "has no 'model'"));
        CHECK(contains(broken("tokenizer.json", R"({"model": {"type": "BPE"}})", "text_json"),
                       "no 'vocab'"));
        CHECK(contains(broken("tokenizer.json", R"({"model": {"vocab": {"a": 0}}})", "text_json"),
                       "no list 'merges'"));
        CHECK(contains(broken("tokenizer.json",
                              R"({"model": {"vocab": {"a": 0}, "merges": [["a"]]}})", "text_json"),
                       "merge 1 is [\"a\"]"));
        CHECK(contains(broken("tokenizer.json", R"({"model": {"type": "Unigram"}})", "text_json"),
                       "no tokenizer of CLIP: its model is Unigram"));
    }

    TEST_CASE("tokenizer: a merge of symbols that the vocabulary lacks is named") {
        const Folder folder;
        folder.write("merges.txt", "#version: 0.2\nq z\nyy z\n");
        CHECK(contains(folder.error(),
                       "merges.txt: merge 2 ('yy' and 'z') needs 'yy', which "
                       "vocab.json lacks"));
        folder.write("merges.txt", "q x\n");  // both are there, their union is not
        CHECK(contains(folder.error(), "merge 1 ('q' and 'x') needs 'qx'"));
    }

    TEST_CASE("tokenizer: merges may be written in one text, with CRLF, or not at all") {
        const Folder whole("text_json"), files;
        const Tokenizer before = files.tokenizer();
        whole.edit("tokenizer.json", [](Json& json) {
            for (Json& merge : json["model"]["merges"]) {
                merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
            }
        });
        std::string lines = read_file(files / "merges.txt"), crlf;
        for (const char c : lines) crlf += c == '\n' ? "\r\n"s : std::string(1, c);
        files.write("merges.txt", crlf + "\r\n");
        for (const char* text : {"a photograph of the old stone bridge", "zqzq"}) {
            CHECK(whole.tokenizer().encode(text) == before.encode(text));
            CHECK(files.tokenizer().encode(text) == before.encode(text));
        }
        files.write("merges.txt", "#version: 0.2\n");
        CHECK(inner(files.tokenizer(), "the") == Ids{83, 71, 68 + 256});
    }

    TEST_CASE(
        "tokenizer: special tokens that are not in the vocabulary, or no tokens, are refused") {
        const Folder folder;
        folder.edit("special_tokens_map.json", [](Json& map) { map["pad_token"] = "[PAD]"; });
        CHECK(contains(folder.error(),
                       "special_tokens_map.json: pad_token is '[PAD]', which vocab.json lacks"));
        folder.edit("special_tokens_map.json", [](Json& map) { map["pad_token"] = 3; });
        CHECK(contains(folder.error(), "pad_token is 3 instead of a token"));
        folder.edit("special_tokens_map.json", [](Json& map) {
            map["pad_token"] = {{"content", "!"}, {"single_word", true}};
        });
        CHECK(contains(folder.error(), "single_word, which is not supported"));
    }

    TEST_CASE("tokenizer: settings that would change ids are refused") {
        for (const auto& [key, value] :
             std::vector<std::pair<std::string, Json>>{{"truncation_side", "left"},
                                                       {"padding_side", "left"},
                                                       {"split_special_tokens", true}}) {
            const Folder folder;
            folder.edit("tokenizer_config.json",
                        [&, k = key, v = value](Json& config) { config[k] = v; });
            CHECK(
                contains(folder.error(), "tokenizer_config.json: " + key + " is " + value.dump()));
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE(
        "tokenizer: any bytes give 77 ids of the vocabulary, capitals and blanks aside the same") {
        const Tokenizer tokenizer = Tokenizer::from_folder(test::golden("text_files"));
        Rng rng(3, 0);
        std::set<std::int64_t> seen;
        for (int i = 0; i < 2000; ++i) {
            std::string bytes, ascii;
            const auto length = static_cast<int>(rng.uniform() * 60);
            for (int k = 0; k < length; ++k) {
                bytes.push_back(static_cast<char>(rng.uniform() * 256));
                ascii.push_back(static_cast<char>(32 + rng.uniform() * 95));
            }
            const Ids ids = tokenizer.encode(bytes);
            REQUIRE(ids.size() == 77);
            REQUIRE(ids.front() == bos);
            REQUIRE(std::find(ids.begin(), ids.end(), eos) != ids.end());
            for (const std::int64_t id : ids) REQUIRE((id >= 0 && id < vocabulary));
            seen.insert(ids.begin(), ids.end());

            std::string spaced = " \t", capital;
            for (const char c : ascii) {
                if (c == ' ') spaced += "\n ";
                spaced.push_back(c);
                capital.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c);
            }
            REQUIRE(tokenizer.encode(ascii) == tokenizer.encode(spaced));
            REQUIRE(tokenizer.encode(ascii) == tokenizer.encode(capital));
        }
        CHECK(seen.size() > 200);
    }
}
