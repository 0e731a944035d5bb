// What the batched degradation asks of a device: memory, copies, launches, all in order.
#pragma once
#include <cstddef>
#include <memory>
#include <stdexcept>

#include "degradation/device/steps.h"

namespace ultrasr {

/// Something that the device or its driver refused; becomes an Error(device) where fmt is known.
struct DeviceFailure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Work is done in the order of the calls; a call may return before it is done. Everything throws
/// DeviceFailure.
class DeviceQueue {
  public:
    virtual ~DeviceQueue() = default;

    virtual void* allocate(std::size_t bytes) = 0;
    virtual void release(void* memory) noexcept = 0;  ///< waits for what uses it
    /// Memory of the host that the device copies from and to without the host's help.
    virtual void* allocate_staging(std::size_t bytes) = 0;
    virtual void release_staging(void* memory) noexcept = 0;

    virtual void copy_in(void* device, const void* staging, std::size_t bytes) = 0;
    virtual void copy_out(void* staging, const void* device, std::size_t bytes) = 0;
    virtual void zero(void* device, std::size_t bytes) = 0;
    /// records  in the device's memory: the elements of the launch begin launch.records behind it
    virtual void launch(const DeviceLaunch& launch, const std::byte* records,
                        const DeviceMemory& memory) = 0;

    /// Ends a run; finish() waits for what was asked before, not for what others do on the device.
    virtual void seal() = 0;
    virtual void finish() = 0;
    /// Takes the time on the device; mark n of the run. For measurements only.
    virtual void mark(std::size_t n) = 0;
    /// Between two marks, after finish(); 0 where the device has no clock.
    virtual double milliseconds(std::size_t from, std::size_t to) const = 0;
};

/// Runs the elements on the CPU, several threads at once.
std::unique_ptr<DeviceQueue> host_queue();

/// A CUDA GPU by its number. stream: a cudaStream_t of it, null for the default one; must live as
/// long as the queue. Only in builds with CUDA.
std::unique_ptr<DeviceQueue> cuda_queue(int index, void* stream);

}  // namespace ultrasr
