#include "leaderboard/profile.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <string_view>
#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "leaderboard/job.h"

namespace ultrasr {
namespace {

/// Table 4 of the SDD paper, as printed.
struct PublishedProfile {
    const char* title;
    int steps;
    double parameters_m, seconds;
};
constexpr std::array published_profiles{
    PublishedProfile{"StableSR", 200, 1410, 11.50}, PublishedProfile{"SeeSR", 50, 2524, 4.30},
    PublishedProfile{"OSEDiff", 1, 1775, 0.31},     PublishedProfile{"AdcSR", 1, 456, 0.11},
    PublishedProfile{"TSD-SR", 1, 2150, 0.13},      PublishedProfile{"SDD", 1, 1320, 0.10}};

/// Waves of every length, a different one in each channel.
Image formula_picture(int side) {
    Image image(PixelSize{side, side});
    for (int y = 0; y < side; ++y) {
        for (int x = 0; x < 3 * side; ++x) {
            const int wave = (37 * (x % 3) + 11 * y + 7 * (x / 3) + x / 3 * y) % 256;
            image.row_(y)[x] = static_cast<float>(wave) / 255.0F;
        }
    }
    return image;
}

// ---- memory ----

/// Gives back what is free, and lets the kernel count the height anew.
void begin_peak() {
    ::malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << "5";
}

/// VmHWM: the height since begin_peak(); VmRSS: now.
std::int64_t resident_bytes(std::string_view key) {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        std::int64_t kib = 0;
        if (word == key && status >> kib) return kib * 1024;
    }
    return 0;
}

std::string mebi(std::int64_t bytes) { return std::to_string(bytes / (1024 * 1024)); }

// ---- the two tables ----

/// Four digits, never with an exponent above.
std::string number(double value) {
    return value >= 1000.0 ? fmt::format("{:.0f}", value) : fmt::format("{:.4g}", value);
}

std::string giga(std::int64_t macs) { return number(static_cast<double>(macs) / 1e9); }

std::string mega(std::int64_t parameters) {
    return fmt::format("{:.2f}", static_cast<double>(parameters) / 1e6);
}

/// A line of the table, nothing behind its last word.
std::string table_row(const std::string& name, const std::string& steps,
                      const std::string& parameters, const std::string& macs,
                      const std::string& layers, const std::string& seconds,
                      const std::string& rate = {}, const std::string& memory = {}) {
    std::string row = fmt::format("{:<24} {:>5} {:>10} {:>9} {:>12} {:>10} {:>10} {:>8}", name,
                                  steps, parameters, macs, layers, seconds, rate, memory);
    row.erase(row.find_last_not_of(' ') + 1);
    return row + "\n";
}

std::string row_of(const MethodProfile& p) {
    const bool counted = p.cost && !p.cost->parts.empty();
    return table_row(p.label, p.provenance.kind == "diffusion" ? "1" : "-",
                     p.cost ? mega(p.cost->parameters()) : "-",
                     counted ? giga(p.cost->macs()) : "-", counted ? giga(p.cost->layers()) : "-",
                     number(p.seconds), number(1.0 / p.seconds), mebi(p.peak_bytes));
}

/// Names of parts that cost or take something, in the order of the work.
std::vector<std::string> parts_of(const MethodProfile& p) {
    std::vector<std::string> names;
    for (const char* name : {"resize", "prompt", "text", "encode", "unet", "decode", "colour"}) {
        names.emplace_back(name);
    }
    const auto add = [&](const std::string& name) {
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    };
    if (p.cost) {
        for (const PartCost& part : p.cost->parts) add(part.name);
    }
    for (const auto& [name, seconds] : p.split.stages()) add(name);
    return names;
}

std::string parts_text(const MethodProfile& p) {
    std::string text;
    for (const std::string& name : parts_of(p)) {
        const PartCost* cost = nullptr;
        if (p.cost) {
            for (const PartCost& part : p.cost->parts) {
                if (part.name == name) cost = &part;
            }
        }
        const double* seconds = nullptr;
        for (const auto& [stage, taken] : p.split.stages()) {
            if (stage == name) seconds = &taken;
        }
        if (!cost && !seconds) continue;
        text += table_row("  " + name, "", cost ? mega(cost->parameters) : "",
                          cost ? giga(cost->macs()) : "", cost ? giga(cost->layers()) : "",
                          seconds              ? number(*seconds)
                          : cost && cost->once ? "once"
                                               : "");
    }
    return text;
}

}  // namespace

std::vector<MethodProfile> profile_methods(const ProfileOptions& options, Progress& progress) {
    // Refuse before any weights are read
    std::vector<MethodSpec> specs;
    for (const std::string& text : options.methods) {
        specs.push_back(parse_method(text));
        if (specs.back().info->prefix) {
            fail(Fault::usage,
                 "{} cannot be profiled: the time of {} says nothing about the method; name one "
                 "of this program's own",
                 text, specs.back().info->name == "folder" ? "reading pictures" : "other programs");
        }
    }
    if (specs.empty()) fail(Fault::usage, "give --method NAME; --list-methods shows them");

    const int side = std::max(1, static_cast<int>(std::lround(options.size / options.scale)));
    const Image lr = formula_picture(side);
    const std::size_t passes = static_cast<std::size_t>(options.runs) + 1;
    std::size_t done = 0;
    std::vector<MethodProfile> profiles;
    for (const MethodSpec& spec : specs) {
        begin_peak();
        const Stopwatch loading;
        const MethodPtr method = make_method(spec, options.options);
        MethodProfile profile{.label = spec.label,
                              .provenance = method->provenance(),
                              .cost = {},
                              .load_seconds = loading.seconds(),
                              .split = {}};
        profile.load_peak_bytes = resident_bytes("VmHWM:");
        begin_peak();
        profile.loaded_bytes = resident_bytes("VmRSS:");
        std::vector<double> seconds;
        std::vector<StageTimes> splits;
        for (std::size_t pass = 0; pass < passes; ++pass) {
            StageTimes split;
            const RestoreRequest request{
                "profile", {options.size, options.size}, {options.scale}, &split, {}};
            const Stopwatch watch;
            method->restore(lr, request);
            progress.step(fmt::format("profile {}", spec.label), ++done, passes * specs.size());
            if (pass == 0) {  // warm-up
                profile.cost = method->cost(lr.size(), request);
                continue;
            }
            seconds.push_back(watch.seconds());
            splits.push_back(std::move(split));
        }
        profile.seconds = median(seconds);
        profile.split = median_split(splits);
        profile.peak_bytes = resident_bytes("VmHWM:");
        profiles.push_back(std::move(profile));
    }
    return profiles;
}

std::string profile_text(const ProfileOptions& options,
                         const std::vector<MethodProfile>& profiles) {
    std::string text = fmt::format(
        "{0} x {0} pixels restored at x{1}, {2} CPU thread{3}, median of {4} after a warm-up\n\n",
        options.size, options.scale, options.options.threads,
        options.options.threads == 1 ? "" : "s", options.runs);
    text += table_row("method", "steps", "parameters", "GMAC", "no attention", "s/picture",
                      "pictures/s", "peak MiB");
    text += table_row("", "", "million", "", "products", "");
    for (const MethodProfile& p : profiles) text += row_of(p);
    if (options.published) {
        for (const PublishedProfile& p : published_profiles) {
            text += table_row(fmt::format("{} (published)", p.title), std::to_string(p.steps),
                              number(p.parameters_m), "-", "-", number(p.seconds),
                              number(1.0 / p.seconds), "-");
        }
        text += "published: the SDD paper's Table 4, on its authors' machine\n";
    }
    for (const MethodProfile& p : profiles) {
        const std::string parts = parts_text(p);
        if (parts.empty()) continue;
        text += fmt::format(
            "\n{}, {}, {}; loaded in {:.1f} s, {} MiB at the height of it, {} MiB after\n{}",
            p.label, p.provenance.device, p.provenance.dtype, p.load_seconds,
            mebi(p.load_peak_bytes), mebi(p.loaded_bytes), parts);
    }
    return text;
}

Json profile_json(const ProfileOptions& options, const std::vector<MethodProfile>& profiles) {
    Json methods = Json::array();
    for (const MethodProfile& p : profiles) {
        Json entry{{"method", p.label},
                   {"kind", p.provenance.kind},
                   {"device", p.provenance.device},
                   {"dtype", p.provenance.dtype}};
        if (p.cost) {
            entry["parameters"] = p.cost->parameters();
            entry["macs"] = p.cost->macs();
            entry["macs_without_attention_products"] = p.cost->layers();
        }
        entry["load_seconds"] = p.load_seconds;
        entry["seconds"] = p.seconds;
        entry["pictures_per_second"] = 1.0 / p.seconds;
        entry["load_peak_bytes"] = p.load_peak_bytes;
        entry["loaded_bytes"] = p.loaded_bytes;
        entry["peak_bytes"] = p.peak_bytes;
        entry["settings"] = Json::object();
        for (const auto& [key, value] : p.provenance.settings) entry["settings"][key] = value;
        entry["parts"] = Json::array();
        if (p.cost) {
            for (const PartCost& part : p.cost->parts) {
                entry["parts"].push_back({{"name", part.name},
                                          {"parameters", part.parameters},
                                          {"convolution_macs", part.convolutions},
                                          {"linear_macs", part.linear},
                                          {"context_macs", part.context},
                                          {"self_attention_macs", part.self_attention},
                                          {"cross_attention_macs", part.cross_attention},
                                          {"once", part.once}});
            }
        }
        entry["split_seconds"] = Json::object();
        for (const auto& [part, seconds] : p.split.stages()) entry["split_seconds"][part] = seconds;
        methods.push_back(std::move(entry));
    }
    Json result{{"size", options.size},
                {"scale", options.scale},
                {"runs", options.runs},
                {"threads", options.options.threads},
                {"methods", methods}};
    if (options.published) {
        for (const PublishedProfile& p : published_profiles) {
            result["published"].push_back({{"method", p.title},
                                           {"steps", p.steps},
                                           {"parameters", p.parameters_m * 1e6},
                                           {"seconds", p.seconds}});
        }
    }
    return result;
}

}  // namespace ultrasr
