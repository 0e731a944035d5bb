// The queue that runs a GPU's elements on the CPU, for tests and for looking into them.
#include <cstring>
#include <new>
#include <type_traits>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include "degradation/device/queue.h"

namespace ultrasr {
namespace {

constexpr std::align_val_t alignment{256};  // as cudaMalloc's

class HostQueue : public DeviceQueue {
  public:
    void* allocate(std::size_t bytes) override {
        void* memory = ::operator new(bytes, alignment);
        std::memset(memory, 0xFF, bytes);  // NaN: what nobody wrote shows
        return memory;
    }
    void release(void* memory) noexcept override { ::operator delete(memory, alignment); }
    void* allocate_staging(std::size_t bytes) override { return allocate(bytes); }
    void release_staging(void* memory) noexcept override { release(memory); }

    void copy_in(void* device, const void* staging, std::size_t bytes) override {
        std::memcpy(device, staging, bytes);
    }
    void copy_out(void* staging, const void* device, std::size_t bytes) override {
        std::memcpy(staging, device, bytes);
    }
    void zero(void* device, std::size_t bytes) override { std::memset(device, 0, bytes); }

    void launch(const DeviceLaunch& launch, const std::byte* records,
                const DeviceMemory& memory) override {
        DeviceElements::with_kind(launch.kind, [&](auto* type) {
            using Element = std::remove_cv_t<std::remove_pointer_t<decltype(type)>>;
            const auto* first = reinterpret_cast<const Element*>(records + launch.records);
            for (std::uint32_t picture = 0; picture < launch.pictures; ++picture) {
                const Element& element = first[picture];
                tbb::parallel_for(tbb::blocked_range<std::uint32_t>(0, element.elements(), 1024),
                                  [&](const auto& range) {
                                      for (std::uint32_t e = range.begin(); e != range.end(); ++e) {
                                          element(memory, e);
                                      }
                                  });
            }
        });
    }

    void seal() override {}
    void finish() override {}
    void mark(std::size_t) override {}
    double milliseconds(std::size_t, std::size_t) const override { return 0; }
};

}  // namespace

std::unique_ptr<DeviceQueue> host_queue() { return std::make_unique<HostQueue>(); }

}  // namespace ultrasr
