// Makes the nodes of a pickle, within the limits; the inert stand-in for Python's objects.
#pragma once
#include <optional>
#include <utility>

#include "data/base/error.h"
#include "data/weights/pickle.h"

namespace ultrasr {

/// What read_pickle builds with. Every function throws Error(input) with the place in the pickle
/// when the request makes no sense or leaves the limits of pickle.h.
class PickleBuilder {
  public:
    explicit PickleBuilder(const PickleLimits& limits);

    std::size_t place = 0;  ///< byte of the opcode that is being run, for messages

    template <class... Args>
    void check(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
        if (condition) return;
        fail(Fault::input, "broken pickle at its byte {}: {}; fetch the file again", place,
             fmt::format(format, std::forward<Args>(args)...));
    }

    PickleNode& node(PickleRef ref) { return made_.nodes[ref]; }

    // These never change, so one of each serves all.
    PickleRef none() const { return 0; }
    PickleRef boolean(bool value) const { return value ? 2 : 1; }
    PickleRef empty_tuple() const { return 3; }

    PickleRef add(PickleKind kind);
    PickleRef add_integer(std::int64_t value);
    PickleRef add_real(double value);
    PickleRef add_text(PickleKind kind, std::string_view text);
    PickleRef add_unescaped(const std::optional<std::string>& text);
    PickleRef add_global(PickleRef module, PickleRef name);
    PickleRef add_with(PickleKind kind, std::vector<PickleRef> items);
    /// An object of that class, empty.
    PickleRef add_object(PickleRef type);

    /// Adds to a list or a set; to a foreign object nothing.
    void append(PickleRef container, std::span<const PickleRef> values);
    /// Adds key, value, key, value ... to a dictionary or a foreign object.
    void set_items(PickleRef container, std::span<const PickleRef> pairs);

    /// What calling `function` with that tuple stands for (see read_pickle); nothing is called.
    PickleRef call(PickleRef function, PickleRef tuple);

    /// Hands over what was made.
    Pickle finish(PickleRef root, std::size_t size);

  private:
    void charge(std::size_t items);
    PickleRef call_dict(const std::vector<PickleRef>& arguments);

    PickleLimits limits_;
    Pickle made_;
    std::size_t items_ = 0;
};

}  // namespace ultrasr
