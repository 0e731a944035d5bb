// A model's config.json, read with diffusers' defaults, refusing what the code does not compute.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/json.h"

namespace ultrasr {

/// Every function: an absent or null key gives the default; another type of value, or one that is
/// not supported, throws Error(input) with the file, the key, the value and what would do.
class ConfigReader {
  public:
    /// what  names the file. throws Error(input) when `config` is no object.
    ConfigReader(const Json& config, std::string_view what);

    bool has(const char* key) const;

    double number(const char* key, double otherwise) const;
    bool flag(const char* key, bool otherwise) const;

    /// >= 1
    std::int64_t integer(const char* key, std::int64_t otherwise) const;
    /// a list of integers >= 1
    std::vector<std::int64_t> integers(const char* key,
                                       const std::vector<std::int64_t>& otherwise) const;
    /// one integer for all of `count` levels, or a list of one for each
    std::vector<std::int64_t> integers_each(const char* key, std::size_t count,
                                            std::int64_t otherwise) const;

    /// For each of `count` levels, whether the list says `yes`, where it may also say `no`.
    std::vector<bool> kinds(const char* key, std::size_t count, std::string_view yes,
                            std::string_view no, const std::vector<bool>& otherwise) const;

    /// The key is absent, null, or one of these words.
    void demand_text(const char* key, std::initializer_list<std::string_view> known) const;
    void demand_number(const char* key, double value) const;
    /// The key is absent, null or false.
    void demand_false(const char* key) const;
    /// The key is absent, null, false, or a list of such.
    void demand_nothing(const char* key) const;

  private:
    [[noreturn]] void refuse(const char* key, const std::string& supported) const;
    std::int64_t positive(const char* key, const Json& value) const;
    const Json* find(const char* key) const;

    const Json& config_;
    std::string what_;
};

}  // namespace ultrasr
