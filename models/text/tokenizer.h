// CLIP's tokenizer: byte-level byte-pair encoding of lower-cased text.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ultrasr {

/// A token that is cut out of the text before words are looked for.
struct AddedToken {
    std::u32string text;  ///< as it is looked for
    std::int64_t id = 0;
    bool normalized = false;  ///< looked for in the cleaned text, else in the text as given
};

/// Gives the ids of transformers 5's CLIPTokenizer with padding to, and truncation at, the longest
/// length. The text is brought to form C, white space collapsed, lower-cased; split into special
/// tokens, contractions ('s 't 're 've 'm 'll 'd), runs of letters, single digits and runs of
/// anything else but white space; each piece then goes through the merges. Bytes that are no UTF-8
/// count as U+FFFD.
///
/// The tokenizers library inside transformers 4 gives the same ids. Python's own CLIPTokenizer of
/// those releases differs where text is not plain: it drops control, format and unassigned
/// characters and U+FFFD, sets blanks around Chinese ones, lower-cases a sigma at a word's end as
/// such, takes U+017F for an s in 's and in special tokens, repairs texts by ftfy where that is
/// installed, and reads the first 48 894 merges only. What remains between the reference and this
/// is Unicode's version: it composes by version 9 (98 marks added since are ordered otherwise) and
/// knows the letters of version 16 and later.
///
/// Source: Radford et al. 2019, 2.2 (bytes), Sennrich et al. 2016 (merges), one_step_models.md 1.6.
class Tokenizer {
  public:
    /// Reads a tokenizer's folder: tokenizer.json where there is one, else vocab.json and
    /// merges.txt. Special tokens and the length come from tokenizer_config.json and
    /// special_tokens_map.json; the latter wins, unless the former has "added_tokens_decoder",
    /// which is then the whole truth. What no file says is CLIP's: <|startoftext|>, <|endoftext|>
    /// also for the filling and the unknown, 77 tokens (also where the length named is beyond
    /// 65 536, which is how "none" is written).
    ///
    /// throws Error(input) that names the file: missing, broken, a merge or special token that the
    ///        vocabulary lacks, a setting that would change ids and is not supported
    static Tokenizer from_folder(const std::filesystem::path& folder);

    /// Start token, text, end token, filling; of a text too long the beginning.
    ///
    /// returns  exactly max_length() ids
    std::vector<std::int64_t> encode(std::string_view prompt) const;

    std::int64_t max_length() const { return max_length_; }
    std::int64_t bos() const { return bos_; }
    std::int64_t eos() const { return eos_; }
    std::int64_t pad() const { return pad_; }

  private:
    struct Merge {
        std::size_t rank;
        std::int64_t id;  ///< of the two joined
    };
    struct Loader;
    struct Ids;

    void add_given(std::u32string_view text, Ids& ids) const;
    void add_cleaned(std::u32string_view text, Ids& ids) const;
    void add_words(std::u32string_view text, Ids& ids) const;
    void add_word(std::u32string_view word, Ids& ids) const;
    std::vector<std::int64_t> merged(std::vector<std::int64_t> symbols) const;

    std::array<std::int64_t, 256> byte_{};             ///< id of a byte inside a word
    std::array<std::int64_t, 256> last_byte_{};        ///< id of a byte that ends one
    std::unordered_map<std::uint64_t, Merge> merges_;  ///< by both ids, left << 32 | right
    std::vector<AddedToken> added_;                    ///< the longest first
    std::int64_t bos_ = 0, eos_ = 0, pad_ = 0;
    std::int64_t max_length_ = 77;
};

}  // namespace ultrasr
