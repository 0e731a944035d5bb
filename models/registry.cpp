#include <algorithm>
#include <array>
#include <filesystem>

#include "data/base/error.h"
#include "models/method.h"

namespace ultrasr {

extern const MethodInfo bicubic, lanczos, realesrgan_x4plus, realesr_general_x4v3,
    realesr_animevideov3, bsrgan, osediff, sdd, folder_method, command_method;
static const std::array methods{
    &bicubic, &lanczos, &realesrgan_x4plus, &realesr_general_x4v3, &realesr_animevideov3, &bsrgan,
    &osediff, &sdd,     &folder_method,     &command_method};

namespace {

/// A label names a row and a folder: letters, digits and . _ + - only, none in front but the first
/// two and _.
bool is_label(std::string_view text) {
    const auto plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_';
    };
    return !text.empty() && text.size() <= 64 && plain(text[0]) &&
           std::all_of(text.begin(), text.end(),
                       [&](char c) { return plain(c) || c == '.' || c == '+' || c == '-'; });
}

/// The last part of a path, or of a command's first word.
std::string last_part(const std::string& argument) {
    namespace fs = std::filesystem;
    const std::string word = argument.substr(0, argument.find(' '));
    const fs::path path = fs::absolute(fs::exists(argument) ? argument : word).lexically_normal();
    return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

}  // namespace

std::span<const MethodInfo* const> all_methods() { return methods; }

MethodSpec parse_method(std::string_view text) {
    // Split off the label; an @ inside a path or between a command's words is none
    std::string_view call = text;
    std::string_view label;
    const std::size_t at = text.rfind('@');
    const bool labelled =
        at != std::string_view::npos && text.find_first_of("/ {", at) == std::string_view::npos;
    if (labelled) {
        call = text.substr(0, at);
        label = text.substr(at + 1);
        if (!is_label(label)) {
            fail(Fault::usage,
                 "the label {:?} of method {} is not a name: use letters, digits, . _ + -, at most "
                 "64",
                 std::string(label), std::string(call));
        }
    }

    // Find the method
    const std::size_t colon = call.find(':');
    const std::string_view name = call.substr(0, colon);
    const bool has_argument = colon != std::string_view::npos && colon + 1 < call.size();
    const auto found = std::find_if(methods.begin(), methods.end(),
                                    [&](const MethodInfo* m) { return m->name == name; });
    if (found == methods.end()) {
        std::string known;
        for (const MethodInfo* m : methods) {
            known += fmt::format("{}{}{}", known.empty() ? "" : ", ", m->name,
                                 m->prefix ? ":ARGUMENT" : "");
        }
        fail(Fault::usage, "unknown method {}; known: {}", std::string(name), known);
    }
    if ((*found)->prefix != has_argument || (!has_argument && colon != std::string_view::npos)) {
        fail(Fault::usage, "method {} is called as {}", std::string(name),
             (*found)->prefix ? (*found)->name + ":ARGUMENT" : (*found)->name);
    }

    MethodSpec spec{.info = *found, .argument = {}, .label = std::string(label)};
    if (has_argument) spec.argument = call.substr(colon + 1);
    if (spec.label.empty()) {
        spec.label = (*found)->prefix ? last_part(spec.argument) : (*found)->name;
    }
    if (!is_label(spec.label)) {
        fail(Fault::usage, "{} gives no good name for a row; add one: {}@LABEL", std::string(text),
             std::string(text));
    }
    return spec;
}

}  // namespace ultrasr
