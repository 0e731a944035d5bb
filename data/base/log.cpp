#include "data/base/log.h"

#include <atomic>
#include <cstdio>
#include <mutex>
#include <string>

namespace ultrasr {
namespace {

constexpr std::string_view clear_line = "\r\033[K";

std::atomic<bool> quiet{false};
std::mutex mutex;
std::string status;  // what stands at the bottom of the terminal now

void put(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); }

}  // namespace

void set_quiet(bool value) { quiet = value; }

bool is_quiet() { return quiet; }

void write_log_line(std::string_view prefix, std::string_view text) {
    const std::lock_guard lock(mutex);
    if (!status.empty()) put(clear_line);
    put(fmt::format("{}{}\n", prefix, text));
    put(status);
    std::fflush(stderr);
}

void write_status_line(std::string_view text) {
    const std::lock_guard lock(mutex);
    if (!status.empty()) put(clear_line);
    status = text;
    put(status);
    std::fflush(stderr);
}

}  // namespace ultrasr
