// What an error says. Include it after everything of LibTorch, as tests/test.h.
#pragma once
#include <string>

#include "data/base/error.h"
#include "tests/test.h"

namespace ultrasr::test {

/// The sentence of the Error that `action` throws, whose fault is checked; "no error" without one.
template <class Action>
std::string sentence_of(Fault fault, const Action& action) {
    try {
        action();
    } catch (const Error& error) {
        CHECK(error.fault() == fault);
        return error.sentence();
    }
    return "no error";
}

inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace ultrasr::test
