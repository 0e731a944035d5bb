#include "models/training/processes.h"

#define USE_C10D_GLOO  // LibTorch's build says so to itself only
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/util/Logging.h>
#include <dlfcn.h>
#include <fmt/ranges.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "data/base/error.h"
#include "data/base/log.h"
#include "models/training/nccl.h"

namespace ultrasr {
namespace {

using c10d::Backend;
using StorePtr = c10::intrusive_ptr<c10d::Store>;

// ---- Who is who ----

/// A whole number of at least `least`, or nothing where the variable is not set.
std::optional<int> number(const Variable& variable, const char* name, int least = 0) {
    const std::optional<std::string> text = variable(name);
    if (!text || text->empty()) return std::nullopt;
    int value = 0;
    const auto [rest, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc() || rest != text->data() + text->size() || value < least) {
        fail(Fault::usage,
             "the environment variable {} is \"{}\"; it has to be a whole number "
             "from {} on",
             name, *text, least);
    }
    return value;
}

std::optional<int> first_of(std::optional<int> first, std::optional<int> second) {
    return first ? first : second;
}

/// What one starter's variables say.
struct Found {
    std::optional<int> rank, size, local_rank, local_size;
    bool complete() const { return rank && size; }
};

bool is_loopback(std::string_view address) {
    return address == "localhost" || address == "::1" || address.starts_with("127.");
}

/// Where rank 0 listens.
void find_master(Launch& launch, const Found& found, const Variable& variable) {
    const bool slurm = launch.starter == "Slurm" || variable("SLURM_JOB_ID").has_value();
    const auto nodes =
        first_of(number(variable, "SLURM_STEP_NUM_NODES", 1), number(variable, "SLURM_NNODES", 1));
    auto list = variable("SLURM_STEP_NODELIST");
    if (!list) list = variable("SLURM_NODELIST");
    if (const auto address = variable("MASTER_ADDR"); address && !address->empty()) {
        launch.address = *address;
    } else if (found.local_size == launch.size || (slurm && nodes == 1)) {
        launch.address = "127.0.0.1";
    } else if (slurm && list && !list->empty()) {
        launch.address = first_host(*list);
    } else {
        fail(Fault::usage,
             "{} started {} processes, but the environment variable MASTER_ADDR is missing; set it "
             "to the name of the machine on which process 0 runs",
             launch.starter, launch.size);
    }
    if (const auto port = number(variable, "MASTER_PORT", 1)) {
        launch.port = *port;
    } else {
        const auto job = number(variable, "SLURM_JOB_ID");
        launch.port = job ? 20000 + *job % 10000 : 29500;  // torch's own
    }
    if (launch.port > 65535) {
        fail(Fault::usage, "MASTER_PORT is {}; ports end at 65535", launch.port);
    }
}

// ---- The network ----

/// What a library's exception says, without the place in its source and its backtrace.
std::string reason(const std::exception& error) {
    const auto* const c10_error = dynamic_cast<const c10::Error*>(&error);
    std::string text = c10_error ? c10_error->what_without_backtrace() : error.what();
    text = text.substr(0, text.find('\n'));
    if (text.starts_with("[") && text.find("] ") != text.npos) {
        text.erase(0, text.find("] ") + 2);
    }
    while (text.ends_with('.')) text.pop_back();
    return text;
}

double seconds(std::chrono::milliseconds time) { return double(time.count()) / 1000; }

/// LibTorch writes each failed attempt with its backtrace to stderr; our errors say it in a
/// sentence.
void silence_library() {
    if (!environment_variable("TORCH_CPP_LOG_LEVEL")) FLAGS_caffe2_log_level = c10::GLOG_FATAL;
}

/// torchrun's agent may hold the store itself; then rank 0 is a guest there as all others.
bool agent_holds_store(const Launch& launch) {
    return launch.starter == "torchrun" &&
           environment_variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
}

/// The table through which processes find each other.
StorePtr open_store(const Launch& launch, std::chrono::milliseconds timeout) {
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(launch.port);
    options.isServer = launch.rank == 0 && !agent_holds_store(launch);
    options.numWorkers = static_cast<std::size_t>(launch.size);
    options.waitWorkers = false;  // wait_for_all says who is missing
    options.timeout = timeout;
    try {
        const auto store = c10::make_intrusive<c10d::TCPStore>(launch.address, options);
        if (!agent_holds_store(launch)) return store;
        const auto attempt = environment_variable("TORCHELASTIC_RESTART_COUNT").value_or("0");
        return c10::make_intrusive<c10d::PrefixStore>("ultrasr/" + attempt, store);
    } catch (const std::exception& error) {
        if (options.isServer) {
            fail(Fault::device,
                 "process 0 cannot listen on {}:{}: {}; set MASTER_PORT to a free port and "
                 "MASTER_ADDR to this machine",
                 launch.address, launch.port, reason(error));
        }
        fail(Fault::device,
             "process {} of {} cannot reach process 0 at {}:{} within {} s: {}; check that it "
             "runs, that MASTER_ADDR and MASTER_PORT are its own and that no firewall is between",
             launch.rank, launch.size, launch.address, launch.port, seconds(timeout),
             reason(error));
    }
}

void wait_for_all(c10d::Store& store, const Launch& launch, std::chrono::milliseconds timeout) {
    std::vector<std::string> keys;
    for (int r = 0; r < launch.size; ++r) keys.push_back(fmt::format("here/{}", r));
    store.set(keys[static_cast<std::size_t>(launch.rank)], std::vector<std::uint8_t>{1});
    try {
        store.wait(keys, timeout);
    } catch (const std::exception& error) {
        std::vector<int> missing;
        try {
            for (int r = 0; r < launch.size; ++r) {
                if (!store.check({keys[static_cast<std::size_t>(r)]})) missing.push_back(r);
            }
        } catch (const std::exception&) {
            missing = {0};  // nobody answers there any more
        }
        fail(Fault::device,
             "of {} processes at {}:{} these did not come within {} s: {}; start all of them{}",
             launch.size, launch.address, launch.port, seconds(timeout), fmt::join(missing, ", "),
             launch.starter == "Slurm" ? " (with srun, in batch files too)" : "");
    }
}

c10::intrusive_ptr<Backend> open_gloo(const StorePtr& store, const Launch& launch,
                                      std::chrono::milliseconds timeout) {
    using Gloo = c10d::ProcessGroupGloo;
    try {
        const auto options = Gloo::Options::create(timeout);
        const auto interface = environment_variable("GLOO_SOCKET_IFNAME");  // as torch reads it
        options->devices.push_back(interface ? Gloo::createDeviceForInterface(*interface)
                                   : is_loopback(launch.address)
                                       ? Gloo::createDeviceForHostname("127.0.0.1")
                                       : Gloo::createDefaultDevice());
        return c10::make_intrusive<Gloo>(c10::make_intrusive<c10d::PrefixStore>("gloo", store),
                                         launch.rank, launch.size, options);
    } catch (const std::exception& error) {
        fail(Fault::device,
             "process {} of {} cannot connect to the others: {}; set GLOO_SOCKET_IFNAME to the "
             "network interface between the machines, such as eth0",
             launch.rank, launch.size, reason(error));
    }
}

/// The maker of libultrasr_nccl.so; null where that does not load.
MakeNccl* find_nccl() {
    std::error_code ignored;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
    const auto library = program.parent_path().parent_path() / "lib" / "libultrasr_nccl.so";
    void* const handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    return handle ? reinterpret_cast<MakeNccl*>(::dlsym(handle, make_nccl_name)) : nullptr;
}

constexpr std::int64_t bucket_bytes = std::int64_t{64} << 20;

/// Calls take(tensors) with runs of tensors that have together about bucket_bytes.
template <class Take>
void in_buckets(const std::vector<at::Tensor>& tensors, std::int64_t item, Take&& take) {
    std::vector<at::Tensor> bucket;
    std::int64_t bytes = 0;
    for (const at::Tensor& tensor : tensors) {
        bucket.push_back(tensor);
        bytes += tensor.numel() * item;
        if (bytes < bucket_bytes) continue;
        take(bucket);
        bucket.clear();
        bytes = 0;
    }
    if (!bucket.empty()) take(bucket);
}

std::int64_t elements_of(const std::vector<at::Tensor>& tensors) {
    std::int64_t sum = 0;
    for (const at::Tensor& tensor : tensors) sum += tensor.numel();
    return sum;
}

/// The type that tensors of a type are summed in.
at::ScalarType sum_type(at::ScalarType type) {
    if (type == at::kDouble) return at::kDouble;
    if (c10::isFloatingType(type)) return at::kFloat;
    if (c10::isIntegralType(type, /*includeBool=*/false)) return at::kLong;
    fail(Fault::internal, "tensors of type {} have no sum", c10::toString(type));
}

}  // namespace

std::optional<std::string> environment_variable(const char* name) {
    const char* const value = std::getenv(name);
    return value ? std::optional<std::string>(value) : std::nullopt;
}

std::string first_host(std::string_view node_list) {
    std::string host;
    for (std::size_t i = 0; i < node_list.size() && node_list[i] != ','; ++i) {
        if (node_list[i] != '[') {
            host += node_list[i];
            continue;
        }
        const std::string_view inside = node_list.substr(i + 1, node_list.find(']', i) - i - 1);
        host += inside.substr(0, inside.find_first_of(",-"));
        i += inside.size() + 1;
    }
    return host;
}

Launch find_launch(const Variable& variable) {
    Launch launch;
    Found found{.rank = number(variable, "RANK"),
                .size = number(variable, "WORLD_SIZE", 1),
                .local_rank = number(variable, "LOCAL_RANK"),
                .local_size = number(variable, "LOCAL_WORLD_SIZE", 1)};
    launch.starter = "torchrun";
    if (found.rank.has_value() != found.size.has_value()) {
        fail(Fault::usage,
             "of the environment variables RANK and WORLD_SIZE only {} is set; set both, or "
             "neither for one process",
             found.rank ? "RANK" : "WORLD_SIZE");
    }
    if (!found.complete()) {
        launch.starter = "mpirun";
        found = {.rank = number(variable, "OMPI_COMM_WORLD_RANK"),
                 .size = number(variable, "OMPI_COMM_WORLD_SIZE", 1),
                 .local_rank = number(variable, "OMPI_COMM_WORLD_LOCAL_RANK"),
                 .local_size = number(variable, "OMPI_COMM_WORLD_LOCAL_SIZE", 1)};
    }
    if (!found.complete()) {
        found = {.rank = number(variable, "PMI_RANK"),
                 .size = number(variable, "PMI_SIZE", 1),
                 .local_rank = number(variable, "MPI_LOCALRANKID"),
                 .local_size = number(variable, "MPI_LOCALNRANKS", 1)};
        // srun with PMI-2 sets these two as well, and knows the rest itself
        if (found.rank == number(variable, "SLURM_PROCID") && !found.local_rank) found = {};
    }
    if (!found.complete()) {
        launch.starter = "Slurm";
        found = {.rank = number(variable, "SLURM_PROCID"),
                 .size = first_of(number(variable, "SLURM_STEP_NUM_TASKS", 1),
                                  number(variable, "SLURM_NTASKS", 1)),
                 .local_rank = number(variable, "SLURM_LOCALID"),
                 .local_size = std::nullopt};
    }
    if (!found.complete() || *found.size == 1) return {};

    launch.rank = *found.rank;
    launch.size = *found.size;
    if (launch.rank >= launch.size) {
        fail(Fault::usage, "{} says that this is process {} of {}; ranks count from 0",
             launch.starter, launch.rank, launch.size);
    }
    find_master(launch, found, variable);
    if (found.local_rank) {
        launch.local_rank = *found.local_rank;
    } else if (is_loopback(launch.address)) {
        launch.local_rank = launch.rank;  // all are here
    } else {
        fail(Fault::usage,
             "{} does not say which of this machine's processes this is; set the environment "
             "variables RANK, WORLD_SIZE and LOCAL_RANK, as torchrun does",
             launch.starter);
    }
    return launch;
}

// ---- Processes ----

struct Processes::Network {
    Launch launch;
    std::chrono::milliseconds timeout;
    StorePtr store;  // outlives what was made with it
    c10::intrusive_ptr<Backend> gloo;
    c10::intrusive_ptr<Backend> nccl;  // null: GPU tensors go through host memory

    /// Runs one exchange to its end.
    template <class Start>
    void exchange(std::string_view doing, Start&& start) const {
        try {
            start()->wait();
        } catch (const std::exception& error) {
            const std::string text = reason(error);
            if (text.find("imed out") != text.npos || text.find("imeout") != text.npos) {
                fail(Fault::device,
                     "process {} of {} waited {} s for the others while {}: one of them hangs or "
                     "lags; look at their messages, end all and start them again",
                     launch.rank, launch.size, seconds(timeout), doing);
            }
            fail(Fault::device,
                 "process {} of {} lost another one while {}: {}; look at the messages of the "
                 "others, end all and start them again",
                 launch.rank, launch.size, doing, text);
        }
    }

    /// Runs one exchange of a tensor on any device; `start` takes backend and tensors.
    template <class Start>
    void exchange_tensor(std::string_view doing, const at::Tensor& flat, Start&& start) const {
        const bool over_nccl = nccl && !flat.is_cpu();
        std::vector<at::Tensor> tensors{over_nccl ? flat : flat.cpu()};  // itself on the CPU
        Backend& backend = over_nccl ? *nccl : *gloo;
        exchange(doing, [&] { return start(backend, tensors); });
        if (!tensors[0].is_same(flat)) flat.copy_(tensors[0]);
    }
};

Processes::Processes(Launch launch, std::unique_ptr<Network> network)
    : launch_(std::move(launch)), network_(std::move(network)) {}

Processes::~Processes() = default;

std::unique_ptr<Processes> Processes::open(const Launch& launch, const c10::Device& device,
                                           std::chrono::milliseconds timeout) {
    if (launch.size <= 1) return std::unique_ptr<Processes>(new Processes(launch, nullptr));
    if (launch.rank == 0) {
        info("process 0 of {} ({}): waiting for the others at {}:{}", launch.size, launch.starter,
             launch.address, launch.port);
    }
    silence_library();
    auto network = std::make_unique<Network>();
    network->launch = launch;
    network->timeout = timeout;
    network->store = open_store(launch, timeout);
    wait_for_all(*network->store, launch, timeout);
    network->gloo = open_gloo(network->store, launch, timeout);
    std::unique_ptr<Processes> processes(new Processes(launch, std::move(network)));
    // Nobody ends, and the store with rank 0, before all are connected
    processes->barrier();
    if (device.is_cpu()) return processes;

    // All of them over NCCL, or none
    Network& net = *processes->network_;
    MakeNccl* const make = find_nccl();
    std::string why = "libultrasr_nccl.so does not load";
    if (!processes->any(make == nullptr)) {
        why.clear();
        try {
            net.nccl = make(c10::make_intrusive<c10d::PrefixStore>("nccl", net.store), launch.rank,
                            launch.size, timeout);
            net.exchange_tensor("trying NCCL", at::full({1}, 1.0, device),
                                [](Backend& backend, std::vector<at::Tensor>& tensors) {
                                    return backend.allreduce(tensors);
                                });
        } catch (const std::exception& error) {
            why = reason(error);
        }
        if (!processes->any(!why.empty())) return processes;
        if (why.empty()) why = "another process has no NCCL";
        net.nccl.reset();
    }
    if (launch.rank == 0) {
        info("gradients travel through host memory, which takes longer: NCCL is not used ({})",
             why);
    }
    return processes;
}

void Processes::reduce_(at::ArrayRef<at::Tensor> tensors, bool average) {
    const c10::NoGradGuard guard;
    for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kLong}) {
        // One kind after the other, in the order they were given
        std::vector<at::Tensor> alike;
        for (const at::Tensor& tensor : tensors) {
            if (sum_type(tensor.scalar_type()) == type && tensor.numel() > 0) {
                alike.push_back(tensor);
            }
        }
        if (average && type == at::kLong && !alike.empty()) {
            fail(Fault::internal, "whole numbers have no average");
        }
        if (!network_) continue;
        in_buckets(alike, std::int64_t(c10::elementSize(type)), [&](const auto& bucket) {
            const at::Tensor flat =
                at::empty({elements_of(bucket)}, bucket[0].options().dtype(type));
            std::int64_t start = 0;
            for (const at::Tensor& tensor : bucket) {
                flat.narrow(0, start, tensor.numel()).view(tensor.sizes()).copy_(tensor);
                start += tensor.numel();
            }
            network_->exchange_tensor("adding up tensors", flat,
                                      [](Backend& backend, std::vector<at::Tensor>& all) {
                                          return backend.allreduce(all);
                                      });
            if (average) flat.div_(launch_.size);
            start = 0;
            for (const at::Tensor& tensor : bucket) {
                tensor.copy_(flat.narrow(0, start, tensor.numel()).view(tensor.sizes()));
                start += tensor.numel();
            }
        });
    }
}

void Processes::sum_(at::ArrayRef<at::Tensor> tensors) { reduce_(tensors, false); }

void Processes::average_(at::ArrayRef<at::Tensor> tensors) { reduce_(tensors, true); }

void Processes::broadcast_(at::ArrayRef<at::Tensor> tensors, int root) {
    if (root < 0 || root >= size()) fail(Fault::internal, "no process {} of {}", root, size());
    if (!network_) return;
    const c10::NoGradGuard guard;
    // As bytes, so that all types travel together and none is touched
    std::vector<at::Tensor> bytes;
    for (const at::Tensor& tensor : tensors) {
        if (tensor.numel() == 0) continue;
        bytes.push_back(tensor.detach().contiguous().view({-1}).view(at::kByte));
    }
    std::vector<at::Tensor> received;
    in_buckets(bytes, 1, [&](const std::vector<at::Tensor>& bucket) {
        const at::Tensor flat = at::empty({elements_of(bucket)}, bucket[0].options());
        std::int64_t start = 0;
        for (const at::Tensor& part : bucket) {
            flat.narrow(0, start, part.numel()).copy_(part);
            start += part.numel();
        }
        c10d::BroadcastOptions options;
        options.rootRank = root;
        network_->exchange_tensor("sending tensors to all", flat,
                                  [&](Backend& backend, std::vector<at::Tensor>& all) {
                                      return backend.broadcast(all, options);
                                  });
        start = 0;
        for (const at::Tensor& part : bucket) {
            received.push_back(flat.narrow(0, start, part.numel()));
            start += part.numel();
        }
    });
    auto next = received.begin();
    for (const at::Tensor& tensor : tensors) {
        if (tensor.numel() == 0) continue;
        tensor.copy_((next++)->clone().view(tensor.scalar_type()).view(tensor.sizes()));
    }
}

bool Processes::any(bool condition) {
    if (!network_) return condition;
    std::vector<at::Tensor> flag{at::full({1}, condition ? 1 : 0, at::kInt)};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::MAX;
    network_->exchange("agreeing", [&] { return network_->gloo->allreduce(flag, options); });
    return flag[0].const_data_ptr<int>()[0] != 0;
}

}  // namespace ultrasr
