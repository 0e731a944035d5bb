#include "degradation/device/program.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <type_traits>
#include <utility>
#include <tbb/parallel_for.h>

#include "data/base/error.h"
#include "degradation/device/operations.h"

namespace ultrasr {
namespace {

/// Gives out stretches of one long array, lowest first, and takes them back.
class Arena {
  public:
    std::uint64_t take(std::uint64_t values) {
        const std::uint64_t length = rounded(values);
        for (auto it = free_.begin(); it != free_.end(); ++it) {
            if (it->second < length) continue;
            const auto [begin, room] = *it;
            free_.erase(it);
            if (room > length) free_[begin + length] = room - length;
            return begin;
        }
        // What is free at the end grows
        std::uint64_t begin = end_;
        if (!free_.empty()) {
            const auto last = std::prev(free_.end());
            if (last->first + last->second == end_) {
                begin = last->first;
                free_.erase(last);
            }
        }
        end_ = begin + length;
        return begin;
    }
    void give_back(std::uint64_t begin, std::uint64_t values) {
        auto it = free_.emplace(begin, rounded(values)).first;
        const auto next = std::next(it);
        if (next != free_.end() && it->first + it->second == next->first) {
            it->second += next->second;
            free_.erase(next);
        }
        if (it == free_.begin()) return;
        const auto before = std::prev(it);
        if (before->first + before->second == it->first) {
            before->second += it->second;
            free_.erase(it);
        }
    }
    std::uint64_t length() const { return end_; }

  private:
    static std::uint64_t rounded(std::uint64_t values) { return (values + 31) / 32 * 32; }

    std::map<std::uint64_t, std::uint64_t> free_;  ///< begin, length
    std::uint64_t end_ = 0;
};

/// Orders the operations of all pictures and gives their buffers places.
class Scheduler {
  public:
    explicit Scheduler(std::vector<PictureProgram> pictures) : pictures_(std::move(pictures)) {
        for (PictureProgram& p : pictures_) {
            State state;
            state.floats = static_cast<std::uint32_t>(out_.floats.size());
            state.ints = static_cast<std::uint32_t>(out_.ints.size());
            state.sets = out_.sets;
            out_.floats.insert(out_.floats.end(), p.floats.begin(), p.floats.end());
            out_.ints.insert(out_.ints.end(), p.ints.begin(), p.ints.end());
            out_.sets += p.sets;
            state.places.resize(p.buffers.size());
            state.readers.resize(p.buffers.size());
            state.missing.resize(p.operations.size());
            state.followers.resize(p.operations.size());
            state.rest.resize(p.operations.size(), 1);
            for (std::size_t i = 0; i < p.operations.size(); ++i) {
                const Operation& operation = p.operations[i];
                for (const int source : operation.sources) {
                    if (source >= 0) ++state.readers[static_cast<std::size_t>(source)];
                }
                for (const int before : operation.after) {
                    ++state.missing[i];
                    state.followers[static_cast<std::size_t>(before)].push_back(i);
                }
            }
            // Operations follow those that they wait for
            for (std::size_t i = p.operations.size(); i-- > 0;) {
                for (const std::size_t follower : state.followers[i]) {
                    state.rest[i] = std::max(state.rest[i], state.rest[follower] + 1);
                }
            }
            states_.push_back(std::move(state));
        }
        for (std::size_t p = 0; p < pictures_.size(); ++p) {
            for (std::size_t i = 0; i < pictures_[p].operations.size(); ++i) {
                if (states_[p].missing[i] == 0) wait(p, i);
            }
        }
    }

    DeviceProgram run() {
        for (;;) {
            // The kind with the picture that has the longest way to go, then with the most pictures
            const auto next = std::max_element(waiting_.begin(), waiting_.end(),
                                               [](const Waiting& a, const Waiting& b) {
                                                   return std::pair(a.longest, a.names.size()) <
                                                          std::pair(b.longest, b.names.size());
                                               });
            if (next->names.empty()) break;
            launch(static_cast<std::size_t>(next - waiting_.begin()),
                   std::exchange(*next, {}).names);
        }
        out_.values = arena_.length();
        return std::move(out_);
    }

  private:
    struct State {
        std::uint32_t floats = 0, ints = 0, sets = 0;  ///< where its own begin
        std::vector<std::uint64_t> places;             ///< of its buffers
        std::vector<int> readers;                      ///< that a buffer still has
        std::vector<int> missing;                      ///< what an operation waits for
        std::vector<std::vector<std::size_t>> followers;
        std::vector<std::size_t> rest;  ///< of launches, this one included, until the end
    };
    using Name = std::pair<std::size_t, std::size_t>;  ///< picture, operation
    struct Waiting {
        std::vector<Name> names;
        std::size_t longest = 0;  ///< rest of theirs
    };

    void wait(std::size_t picture, std::size_t operation) {
        Waiting& kind = waiting_[pictures_[picture].operations[operation].element.index()];
        kind.names.push_back({picture, operation});
        kind.longest = std::max(kind.longest, states_[picture].rest[operation]);
    }

    void launch(std::size_t kind, const std::vector<Name>& names) {
        DeviceLaunch launch;
        launch.kind = kind;
        launch.records = out_.records.size();
        launch.pictures = static_cast<std::uint32_t>(names.size());
        for (const auto& [p, i] : names) {
            State& state = states_[p];
            for (const int target : pictures_[p].operations[i].targets) {
                if (target < 0) continue;
                const auto b = static_cast<std::size_t>(target);
                state.places[b] = arena_.take(pictures_[p].buffers[b]);
            }
            write(p, i, launch);
        }
        out_.records.resize((out_.records.size() + 15) / 16 * 16);
        out_.launches.push_back(launch);

        // What nobody reads any more may be written over by the next launch, not by this one
        for (const auto& [p, i] : names) {
            const Operation& operation = pictures_[p].operations[i];
            for (const int source : operation.sources) {
                if (source >= 0 && --states_[p].readers[static_cast<std::size_t>(source)] == 0) {
                    release(p, source);
                }
            }
            for (const int target : operation.targets) {
                if (target >= 0 && states_[p].readers[static_cast<std::size_t>(target)] == 0) {
                    release(p, target);
                }
            }
            for (const std::size_t follower : states_[p].followers[i]) {
                if (--states_[p].missing[follower] == 0) wait(p, follower);
            }
        }
    }

    void write(std::size_t p, std::size_t i, DeviceLaunch& launch) {
        const State& state = states_[p];
        Operation& operation = pictures_[p].operations[i];
        std::visit(
            [&](auto& element) {
                static_assert(std::is_trivially_copyable_v<std::decay_t<decltype(element)>>);
                const auto place = [&](int buffer) {
                    return buffer < 0 ? 0 : state.places[static_cast<std::size_t>(buffer)];
                };
                for (std::size_t k = 0; k < 3; ++k) {
                    element.at.source[k] = place(operation.sources[k]);
                }
                for (std::size_t k = 0; k < 2; ++k) {
                    element.at.target[k] = place(operation.targets[k]);
                }
                element.at.floats += state.floats;
                element.at.ints += state.ints;
                element.at.seen += state.sets;
                launch.elements = std::max(launch.elements, element.elements());
                const std::size_t begin = out_.records.size();
                out_.records.resize(begin + sizeof element);
                std::memcpy(out_.records.data() + begin, &element, sizeof element);
            },
            operation.element);
    }

    void release(std::size_t p, int buffer) {
        const auto b = static_cast<std::size_t>(buffer);
        arena_.give_back(states_[p].places[b], pictures_[p].buffers[b]);
    }

    std::vector<PictureProgram> pictures_;
    std::vector<State> states_;
    std::array<Waiting, DeviceElements::count> waiting_;
    Arena arena_;
    DeviceProgram out_;
};

}  // namespace

DeviceProgram device_program(std::span<const DevicePicture> pictures) {
    for (std::size_t i = 0; i < pictures.size(); ++i) {
        const std::string why = step_without_kernel(*pictures[i].plan);
        if (why.empty()) continue;
        fail(Fault::device,
             "picture {} of the batch: {} has no GPU kernel; degrade this plan on the CPU", i, why);
    }
    std::vector<PictureProgram> programs(pictures.size());
    tbb::parallel_for(std::size_t{0}, pictures.size(),
                      [&](std::size_t i) { programs[i] = picture_program(pictures[i]); });
    return Scheduler(std::move(programs)).run();
}

}  // namespace ultrasr
