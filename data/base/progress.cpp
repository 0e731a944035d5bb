#include "data/base/progress.h"

#include <atomic>

namespace ultrasr {
namespace {
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // set from a signal handler
}  // namespace

void Progress::step(std::string_view what, std::size_t done, std::size_t total,
                    std::string_view note) {
    if (sink_) {
        const std::lock_guard lock(mutex_);
        sink_({what, done, total, note});
    }
    throw_if_interrupted();
}

void Progress::throw_if_interrupted() {
    if (interrupted.load(std::memory_order_relaxed)) throw Interrupted{};
}

void Progress::interrupt() noexcept { interrupted.store(true, std::memory_order_relaxed); }

void Progress::resume() noexcept { interrupted.store(false, std::memory_order_relaxed); }

}  // namespace ultrasr
