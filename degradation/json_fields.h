// Reads an object of parameters strictly: every key is known, of the right kind and in its range.
#pragma once
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "data/base/geometry.h"
#include "data/base/json.h"

namespace ultrasr {

/// Takes the fields of one object by name; done() refuses what nobody asked for. Every fault is an
/// Error(input) that names the object and the key.
class JsonFields {
  public:
    /// object  must outlive this
    /// what    what the object is, for messages: "preset ultra-mild", "jpeg"
    JsonFields(const Json& object, std::string what);

    bool has(std::string_view key) const;

    double number(std::string_view key);
    double number(std::string_view key, double otherwise);
    int integer(std::string_view key);
    int integer(std::string_view key, int otherwise);
    bool flag(std::string_view key, bool otherwise);
    std::string text(std::string_view key);
    std::string text(std::string_view key, std::string otherwise);
    std::vector<double> numbers(std::string_view key);
    /// [height, width], each 1 to 65536
    PixelSize size(std::string_view key);
    /// Any value; must be there.
    const Json& value(std::string_view key);

    /// throws when a key was never asked for: lists those that were
    void done() const;

  private:
    const Json* find(std::string_view key);
    [[noreturn]] void wrong(std::string_view key, std::string_view wanted) const;

    const Json& object_;
    std::string what_;
    std::set<std::string, std::less<>> asked_;
};

}  // namespace ultrasr
