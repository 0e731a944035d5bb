#include "models/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <queue>
#include <utility>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "models/text/unicode_classes.h"

namespace ultrasr {
namespace {

namespace fs = std::filesystem;
using Settings = nlohmann::json;  // sorted: the project's own keeps the order by slow look-ups

constexpr std::string_view word_end = "</w>";
constexpr std::string_view default_bos = "<|startoftext|>", default_eos = "<|endoftext|>";
constexpr std::int64_t default_length = 77;
constexpr double absurd_length = 65536.0;

// ---- Bytes as printable signs ----

/// The sign that stands for a byte in vocabularies: itself where it is printable, else the next
/// free one from U+0100 on. Source: Radford et al. 2019, the table of GPT-2.
std::array<std::string, 256> byte_signs() {
    std::array<std::string, 256> signs;
    char32_t next = 0x100;
    for (std::size_t byte = 0; byte < 256; ++byte) {
        const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        const char32_t sign = printable ? static_cast<char32_t>(byte) : next++;
        signs[byte] = encode_utf8({&sign, 1});
    }
    return signs;
}

// ---- Cleaning ----

/// Form C, runs of white space as one blank, lower case.
std::u32string cleaned(std::u32string_view text) {
    std::u32string out;
    bool space = false;
    for (const char32_t c : composed(text)) {
        const bool now = class_of(c) == CharacterClass::space;
        if (!(now && space)) out.push_back(now ? U' ' : c);
        space = now;
    }
    return lower_case(out);
}

/// Length of the contraction that `text` begins with, 0 without one.
std::size_t contraction(std::u32string_view text) {
    for (const std::u32string_view word : {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"}) {
        if (text.starts_with(word)) return word.size();
    }
    return 0;
}

std::uint64_t pair_key(std::int64_t left, std::int64_t right) {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right);
}

// ---- Files ----

Settings parse(const fs::path& path) {
    const std::string text = read_file(path);
    try {
        return Settings::parse(text);
    } catch (const Settings::exception& error) {
        fail(Fault::input, "{} is not valid JSON: {}; fetch the file again", path.string(),
             error.what());
    }
}

Settings parse_object(const fs::path& path) {
    Settings value = parse(path);
    require(value.is_object(), "{} holds no JSON object; fetch the file again", path.string());
    return value;
}

/// The settings of an optional file.
Settings parse_if_there(const fs::path& path) {
    return fs::exists(path) ? parse_object(path) : Settings::object();
}

std::int64_t id_of(const Settings& value, std::string_view token, const fs::path& path) {
    const bool fits = value.is_number_integer() && value >= 0 && value < (std::int64_t{1} << 31);
    require(fits,
            "{}: the id of token '{}' is {} instead of a number from 0 on; fetch the file "
            "again",
            path.string(), token, value.dump());
    return value.get<std::int64_t>();
}

/// A token as the files write it: a text, or an object with its text and flags.
struct TokenEntry {
    std::string text;
    bool normalized = false;
};

TokenEntry token_entry(const Settings& value, const std::string& key, const fs::path& path) {
    if (value.is_string()) return {value.get<std::string>()};
    const bool object =
        value.is_object() && value.contains("content") && value["content"].is_string();
    require(object, "{}: {} is {} instead of a token; fetch the file again", path.string(), key,
            value.dump());
    const auto flag = [&](const char* name, bool otherwise) {
        const auto found = value.find(name);
        if (found == value.end()) return otherwise;
        require(found->is_boolean(), "{}: {} of {} is {} instead of true or false", path.string(),
                name, key, found->dump());
        return found->get<bool>();
    };
    require(!flag("single_word", false),
            "{}: {} says single_word, which is not supported; set it to false", path.string(), key);
    return {value["content"].get<std::string>(), flag("normalized", false)};
}

}  // namespace

// ---- Loading ----

struct Tokenizer::Loader {
    fs::path folder;
    Tokenizer result{};
    std::unordered_map<std::string, std::int64_t> vocabulary{};
    fs::path vocabulary_path{};
    std::map<std::string, AddedToken> added{};

    void read();
    void read_vocabulary(const Settings& tokens, const fs::path& path);
    void read_merges_txt(const fs::path& path);
    void read_model(const Settings& model, const fs::path& path);
    void add_merge(const std::string& left, const std::string& right, const fs::path& path,
                   std::size_t rank);
    void read_added(const Settings& entry, std::int64_t id, const fs::path& path);
    void read_special_tokens(const Settings& config, const fs::path& config_path);
    void check_settings(const Settings& config, const fs::path& path);
    void finish_bytes(std::int64_t unknown);
    std::optional<std::int64_t> find(const std::string& token) const;
};

std::optional<std::int64_t> Tokenizer::Loader::find(const std::string& token) const {
    const auto found = vocabulary.find(token);
    if (found != vocabulary.end()) return found->second;
    const auto other = added.find(token);
    if (other != added.end()) return other->second.id;
    return std::nullopt;
}

void Tokenizer::Loader::read_vocabulary(const Settings& tokens, const fs::path& path) {
    require(tokens.is_object() && !tokens.empty(),
            "{} holds no vocabulary, an object of tokens and their ids; fetch the file again",
            path.string());
    vocabulary_path = path;
    vocabulary.reserve(tokens.size());
    for (const auto& [token, id] : tokens.items()) {
        vocabulary.emplace(token, id_of(id, token, path));
    }
}

void Tokenizer::Loader::add_merge(const std::string& left, const std::string& right,
                                  const fs::path& path, std::size_t rank) {
    const auto known = [&](const std::string& token) {
        const auto found = vocabulary.find(token);
        require(found != vocabulary.end(),
                "{}: merge {} ('{}' and '{}') needs '{}', which {} lacks; the two belong to "
                "different models",
                path.string(), rank + 1, left, right, token, vocabulary_path.filename().string());
        return found->second;
    };
    const std::uint64_t pair = pair_key(known(left), known(right));
    result.merges_.insert_or_assign(pair, Merge{rank, known(left + right)});
}

void Tokenizer::Loader::read_merges_txt(const fs::path& path) {
    const std::string text = read_file(path);
    std::size_t rank = 0, line_number = 0;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        std::string line = text.substr(begin, end - begin);
        begin = end + 1;
        ++line_number;
        if (line.ends_with('\r')) line.pop_back();
        if (line.empty() || line.starts_with("#version")) continue;
        const std::size_t blank = line.find(' ');
        const bool two = blank != std::string::npos && blank > 0 && blank + 1 < line.size() &&
                         line.find(' ', blank + 1) == std::string::npos;
        require(two, "{}: line {} is not two symbols with a blank between; fetch the file again",
                path.string(), line_number);
        add_merge(line.substr(0, blank), line.substr(blank + 1), path, rank++);
    }
}

void Tokenizer::Loader::read_model(const Settings& model, const fs::path& path) {
    const auto text = [&](const char* key, std::string_view otherwise) {
        const auto found = model.find(key);
        const bool given = found != model.end() && found->is_string();
        return given ? found->get<std::string>() : std::string(otherwise);
    };
    require(text("type", "BPE") == "BPE" && text("end_of_word_suffix", word_end) == word_end,
            "{} is no tokenizer of CLIP: its model is {} with words ending in '{}', supported is "
            "BPE with '{}'",
            path.string(), text("type", "BPE"), text("end_of_word_suffix", word_end), word_end);
    require(model.contains("vocab"), "{}: its model has no 'vocab'; fetch the file again",
            path.string());
    read_vocabulary(model["vocab"], path);
    const auto merges = model.find("merges");
    require(merges != model.end() && merges->is_array(),
            "{}: its model has no list 'merges'; fetch the file again", path.string());
    for (std::size_t rank = 0; rank < merges->size(); ++rank) {
        // Two symbols in a list, or in one text as earlier releases wrote them
        const Settings& merge = (*merges)[rank];
        std::string left, right;
        if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
            left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
        } else if (merge.is_string()) {
            const std::string both = merge.get<std::string>();
            const std::size_t blank = both.find(' ');
            if (blank != std::string::npos)
                left = both.substr(0, blank), right = both.substr(blank + 1);
        }
        require(!left.empty() && !right.empty(),
                "{}: merge {} is {} instead of two symbols; fetch the file again", path.string(),
                rank + 1, merge.dump());
        add_merge(left, right, path, rank);
    }
}

void Tokenizer::Loader::read_added(const Settings& entry, std::int64_t id, const fs::path& path) {
    const TokenEntry token = token_entry(entry, fmt::format("added token {}", id), path);
    const std::int64_t known = find(token.text).value_or(id);  // the vocabulary's id counts
    added.insert_or_assign(token.text,
                           AddedToken{decode_utf8(token.text), known, token.normalized});
}

void Tokenizer::Loader::check_settings(const Settings& config, const fs::path& path) {
    // Demand what would change ids to be as CLIP has it
    const std::array<std::pair<const char*, Settings>, 3> supported{
        {{"truncation_side", "right"}, {"padding_side", "right"}, {"split_special_tokens", false}}};
    for (const auto& [key, value] : supported) {
        const auto found = config.find(key);
        require(found == config.end() || *found == value, "{}: {} is {}, supported is {}",
                path.string(), key, found == config.end() ? "" : found->dump(), value.dump());
    }

    // The length
    const auto found = config.find("model_max_length");
    if (found == config.end() || found->is_null()) return;
    require(found->is_number(), "{}: model_max_length is {} instead of a number", path.string(),
            found->dump());
    const double length = found->get<double>();
    if (length > absurd_length) return;
    require(length >= 2.0 && found->is_number_integer(),
            "{}: model_max_length is {}, but start and end token alone are 2", path.string(),
            found->dump());
    result.max_length_ = found->get<std::int64_t>();
}

void Tokenizer::Loader::read_special_tokens(const Settings& config, const fs::path& config_path) {
    struct Special {
        std::string key, text;
        bool normalized;
        fs::path path;
    };
    std::vector<Special> specials;
    const auto add = [&](const char* key, const Settings& value, const fs::path& path) {
        const TokenEntry token = token_entry(value, key, path);
        specials.push_back({key, token.text, token.normalized, path});
    };
    const auto given = [](const Settings& settings, const char* key) -> const Settings* {
        const auto found = settings.find(key);
        return found == settings.end() || found->is_null() ? nullptr : &*found;
    };

    // The map's, else the config's, else CLIP's own
    const fs::path map_path = folder / "special_tokens_map.json";
    const Settings map =
        config.contains("added_tokens_decoder") ? Settings::object() : parse_if_there(map_path);
    const auto one = [&](const char* key, std::string_view otherwise) {
        if (const Settings* value = given(map, key)) return add(key, *value, map_path);
        if (const Settings* value = given(config, key)) return add(key, *value, config_path);
        add(key, otherwise, config_path);
    };
    one("bos_token", default_bos);
    one("eos_token", default_eos);
    one("unk_token", default_eos);
    one("pad_token", default_eos);
    const auto list = [&](const Settings& settings, const fs::path& path) {
        for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
            const Settings* values = given(settings, key);
            if (!values) continue;
            for (const Settings& value : *values) add(key, value, path);
        }
    };
    list(config, config_path);
    list(map, map_path);

    // Of equal texts the last one's flag counts, unless the list of added tokens has it
    std::map<std::string, AddedToken> named;
    std::vector<std::int64_t> ids;
    for (const Special& special : specials) {
        const std::optional<std::int64_t> id = find(special.text);
        require(
            id.has_value(), "{}: {} is '{}', which {} lacks; the two belong to different models",
            special.path.string(), special.key, special.text, vocabulary_path.filename().string());
        named.insert_or_assign(special.text,
                               AddedToken{decode_utf8(special.text), *id, special.normalized});
        ids.push_back(*id);
    }
    result.bos_ = ids[0];
    result.eos_ = ids[1];
    finish_bytes(ids[2]);
    result.pad_ = ids[3];
    added.merge(named);
}

void Tokenizer::Loader::finish_bytes(std::int64_t unknown) {
    const std::array<std::string, 256> signs = byte_signs();
    const auto id = [&](const std::string& symbol) {
        const auto found = vocabulary.find(symbol);
        return found == vocabulary.end() ? unknown : found->second;
    };
    for (std::size_t byte = 0; byte < 256; ++byte) {
        result.byte_[byte] = id(signs[byte]);
        result.last_byte_[byte] = id(signs[byte] + std::string(word_end));
    }
}

void Tokenizer::Loader::read() {
    require(fs::is_directory(folder),
            "there is no tokenizer folder {}; a model in diffusers layout has one",
            folder.string());
    const fs::path config_path = folder / "tokenizer_config.json";
    const Settings config = parse_if_there(config_path);
    check_settings(config, config_path);

    // The vocabulary and its merges
    const fs::path whole = folder / "tokenizer.json", vocab = folder / "vocab.json",
                   merges = folder / "merges.txt";
    Settings tokenizer;
    if (fs::exists(whole)) {
        tokenizer = parse_object(whole);
        require(tokenizer.contains("model") && tokenizer["model"].is_object(),
                "{} has no 'model'; fetch the file again", whole.string());
        read_model(tokenizer["model"], whole);
    } else {
        for (const fs::path& path : {vocab, merges}) {
            require(fs::exists(path),
                    "{} is missing; a tokenizer's folder needs vocab.json and "
                    "merges.txt, or tokenizer.json",
                    path.string());
        }
        read_vocabulary(parse(vocab), vocab);
        read_merges_txt(merges);
    }

    // Tokens that are cut out of the text
    const auto decoder = config.find("added_tokens_decoder");
    if (decoder != config.end()) {
        require(decoder->is_object(), "{}: added_tokens_decoder is no object of ids and tokens",
                config_path.string());
        for (const auto& [id, entry] : decoder->items()) {
            const bool digits = !id.empty() && id.size() < 10 &&
                                id.find_first_not_of("0123456789") == std::string::npos;
            require(digits, "{}: added_tokens_decoder has '{}' for an id", config_path.string(),
                    id);
            read_added(entry, std::stoll(id), config_path);
        }
    } else if (tokenizer.contains("added_tokens")) {
        for (const Settings& entry : tokenizer["added_tokens"]) {
            const Settings id = entry.is_object() ? entry.value("id", Settings()) : Settings();
            read_added(entry, id_of(id, "added", whole), whole);
        }
    }
    read_special_tokens(config, config_path);

    // In a text the longest that fits is taken
    for (auto& [text, token] : added) {
        if (token.normalized) token.text = cleaned(token.text);
        if (!token.text.empty()) result.added_.push_back(token);
    }
    std::stable_sort(
        result.added_.begin(), result.added_.end(),
        [](const AddedToken& a, const AddedToken& b) { return a.text.size() > b.text.size(); });
}

Tokenizer Tokenizer::from_folder(const fs::path& folder) {
    Loader loader{.folder = folder};
    loader.read();
    return std::move(loader.result);
}

// ---- Encoding ----

/// The ids so far, as long as there is room.
struct Tokenizer::Ids {
    std::vector<std::int64_t> values;
    std::size_t room;
    bool full() const { return values.size() >= room; }
};

namespace {

/// Hands each added token of one kind to `token`, and the text between to `between`.
template <class OnToken, class OnText>
void split_at_tokens(std::u32string_view text, const std::vector<AddedToken>& tokens,
                     bool normalized, const OnToken& token, const OnText& between) {
    std::size_t begin = 0;
    for (std::size_t i = 0; i < text.size();) {
        const auto found = std::find_if(tokens.begin(), tokens.end(), [&](const AddedToken& t) {
            return t.normalized == normalized && text.substr(i).starts_with(t.text);
        });
        if (found == tokens.end()) {
            ++i;
            continue;
        }
        if (i > begin) between(text.substr(begin, i - begin));
        token(found->id);
        i += found->text.size();
        begin = i;
    }
    if (begin < text.size()) between(text.substr(begin));
}

}  // namespace

std::vector<std::int64_t> Tokenizer::encode(std::string_view prompt) const {
    const auto length = static_cast<std::size_t>(max_length_);
    Ids ids{.values = {bos_}, .room = length - 1};
    add_given(decode_utf8(prompt), ids);
    ids.values.resize(std::min(ids.values.size(), length - 1));
    ids.values.push_back(eos_);
    ids.values.resize(length, pad_);
    return std::move(ids.values);
}

void Tokenizer::add_given(std::u32string_view text, Ids& ids) const {
    split_at_tokens(
        text, added_, /*normalized=*/false, [&](std::int64_t id) { ids.values.push_back(id); },
        [&](std::u32string_view between) {
            if (!ids.full()) add_cleaned(cleaned(between), ids);
        });
}

void Tokenizer::add_cleaned(std::u32string_view text, Ids& ids) const {
    split_at_tokens(
        text, added_, /*normalized=*/true, [&](std::int64_t id) { ids.values.push_back(id); },
        [&](std::u32string_view between) { add_words(between, ids); });
}

void Tokenizer::add_words(std::u32string_view text, Ids& ids) const {
    const auto is = [&](std::size_t i, CharacterClass kind) {
        return i < text.size() && class_of(text[i]) == kind;
    };
    for (std::size_t i = 0; i < text.size() && !ids.full();) {
        const std::u32string_view rest = text.substr(i);
        std::size_t n = contraction(rest);
        if (n > 0) {
            add_word(rest.substr(0, n), ids);
        } else if (is(i, CharacterClass::space)) {
            n = 1;
        } else if (is(i, CharacterClass::number)) {
            add_word(rest.substr(0, n = 1), ids);
        } else if (rest.starts_with(U"<|startoftext|>") || rest.starts_with(U"<|endoftext|>")) {
            // One that was not cut out, such as capitals: three words, whatever comes behind
            n = rest.find(U'>') + 1;
            add_word(rest.substr(0, 2), ids);
            add_word(rest.substr(2, n - 4), ids);
            add_word(rest.substr(n - 2, 2), ids);
        } else {
            const CharacterClass kind = class_of(text[i]);
            while (is(i + n, kind)) ++n;
            add_word(rest.substr(0, n), ids);
        }
        i += n;
    }
}

void Tokenizer::add_word(std::u32string_view word, Ids& ids) const {
    const std::string bytes = encode_utf8(word);
    std::vector<std::int64_t> symbols;
    symbols.reserve(bytes.size());
    for (const char byte : bytes) symbols.push_back(byte_[static_cast<unsigned char>(byte)]);
    symbols.back() = last_byte_[static_cast<unsigned char>(bytes.back())];
    for (const std::int64_t id : merged(std::move(symbols))) ids.values.push_back(id);
}

/// The pair of lowest rank first, of equal ones the leftmost, one at a time: a pair that a merge
/// has just made may come before the next occurrence of the same merge.
std::vector<std::int64_t> Tokenizer::merged(std::vector<std::int64_t> symbols) const {
    // Symbols stay in their places; those merged into their left neighbour drop out of the chain
    constexpr std::size_t nobody = static_cast<std::size_t>(-1);
    const std::size_t n = symbols.size();
    std::vector<std::size_t> left(n), right(n);
    for (std::size_t i = 0; i < n; ++i) {
        left[i] = i == 0 ? nobody : i - 1;
        right[i] = i + 1 == n ? nobody : i + 1;
    }
    std::vector<bool> gone(n, false);

    // Queue what can be merged
    struct Candidate {
        std::size_t rank, place;
        std::int64_t id;
        bool operator>(const Candidate& other) const {
            return std::pair(rank, place) > std::pair(other.rank, other.place);
        }
    };
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto find = [&](std::size_t i) {
        return merges_.find(pair_key(symbols[i], symbols[right[i]]));
    };
    const auto offer = [&](std::size_t i) {
        if (i == nobody || right[i] == nobody) return;
        const auto found = find(i);
        if (found != merges_.end()) queue.push({found->second.rank, i, found->second.id});
    };
    for (std::size_t i = 0; i < n; ++i) offer(i);

    // Merge, and queue the new pairs at both sides
    while (!queue.empty()) {
        const Candidate best = queue.top();
        queue.pop();
        const std::size_t i = best.place;
        if (gone[i] || right[i] == nobody) continue;
        const auto still = find(i);
        if (still == merges_.end() || still->second.id != best.id) continue;
        const std::size_t eaten = right[i];
        symbols[i] = best.id;
        gone[eaten] = true;
        right[i] = right[eaten];
        if (right[i] != nobody) left[right[i]] = i;
        offer(left[i]);
        offer(i);
    }

    std::vector<std::int64_t> out;
    for (std::size_t i = 0; i != nobody && i < n; i = right[i]) out.push_back(symbols[i]);
    return out;
}

}  // namespace ultrasr
