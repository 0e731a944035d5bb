// What long work reports, and how it learns that the user wants to stop.
#pragma once
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace ultrasr {

/// Thrown by long work after SIGINT or SIGTERM. Not a std::exception: nothing but the program's
/// outermost frame may swallow it.
struct Interrupted {};

/// Receives progress; safe to call from several threads.
class Progress {
  public:
    /// One finished piece of work: what it is called, how many are done, how many there are.
    struct Step {
        std::string_view what;
        std::size_t done = 0;
        std::size_t total = 0;
        std::string_view note = {};  ///< what else is worth seeing now; may change every time
    };
    using Sink = std::function<void(const Step&)>;

    Progress() = default;  ///< reports to nobody
    explicit Progress(Sink sink) : sink_(std::move(sink)) {}

    /// Reports, then throws Interrupted if the user asked to stop.
    void step(std::string_view what, std::size_t done, std::size_t total,
              std::string_view note = {});

    /// Throws Interrupted if the user asked to stop.
    static void throw_if_interrupted();

    /// Asks all long work in this process to stop. Async-signal-safe.
    static void interrupt() noexcept;

    /// Forgets an earlier interrupt().
    static void resume() noexcept;

  private:
    std::mutex mutex_;
    Sink sink_;
};

}  // namespace ultrasr
