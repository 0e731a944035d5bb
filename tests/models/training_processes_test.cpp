#include "models/training/processes.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <chrono>
#include <cstring>
#include <limits>
#include <map>
#include <thread>
#include <vector>

#include "data/file.h"
#include "tests/models/devices.h"
#include "tests/sentence.h"
#include "tests/test.h"

using namespace ultrasr;
using namespace std::chrono_literals;
using test::contains;
using test::sentence_of;
using Clock = std::chrono::steady_clock;

namespace {

constexpr char child_case[] = "Processes: one of several that a test started";

/// A port of the loopback that is held until the object goes.
class HeldPort {
  public:
    HeldPort() : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
        struct sockaddr_in address {};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_ANY);
        socklen_t size = sizeof address;
        auto* const plain = reinterpret_cast<struct sockaddr*>(&address);
        REQUIRE(::bind(socket_, plain, size) == 0);
        REQUIRE(::listen(socket_, 1) == 0);
        REQUIRE(::getsockname(socket_, plain, &size) == 0);
        port_ = ntohs(address.sin_port);
    }
    ~HeldPort() { ::close(socket_); }
    HeldPort(const HeldPort&) = delete;
    HeldPort& operator=(const HeldPort&) = delete;
    int port() const { return port_; }

  private:
    int socket_, port_ = 0;
};

int free_port() { return HeldPort().port(); }

/// Processes of this very program that run `child_case` in a mode; killed with the object.
class Children {
  public:
    Children(const char* mode, int count) : ids_(static_cast<std::size_t>(count)) {
        const std::string port = std::to_string(free_port()), size = std::to_string(count);
        for (int rank = 0; rank < count; ++rank) {
            const std::string number = std::to_string(rank);
            const pid_t id = ::fork();
            if (id == 0) {
                for (const char* name : {"TORCHELASTIC_USE_AGENT_STORE", "GLOO_SOCKET_IFNAME"}) {
                    ::unsetenv(name);
                }
                ::setenv("ULTRASR_TEST_PROCESSES", mode, 1);
                ::setenv("RANK", number.c_str(), 1);
                ::setenv("WORLD_SIZE", size.c_str(), 1);
                ::setenv("LOCAL_RANK", number.c_str(), 1);
                ::setenv("MASTER_ADDR", "127.0.0.1", 1);
                ::setenv("MASTER_PORT", port.c_str(), 1);
                const int log = ::open(log_of(rank).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
                ::dup2(log, STDOUT_FILENO);
                ::dup2(log, STDERR_FILENO);
                ::execl("/proc/self/exe", "test", "--no-skip",
                        (std::string("--test-case=") + child_case).c_str(), nullptr);
                ::_exit(127);
            }
            ids_[static_cast<std::size_t>(rank)] = id;
        }
    }
    ~Children() {
        for (const pid_t id : ids_) {
            if (id > 0) ::kill(id, SIGKILL), ::waitpid(id, nullptr, 0);
        }
    }
    Children(const Children&) = delete;
    Children& operator=(const Children&) = delete;

    /// Exit code, or minus the signal; what a failed one said goes to the test's output.
    int wait(int rank) {
        pid_t& id = ids_.at(static_cast<std::size_t>(rank));
        int status = 0;
        const auto deadline = Clock::now() + 90s;
        while (::waitpid(id, &status, WNOHANG) == 0) {
            if (Clock::now() > deadline) ::kill(id, SIGKILL);
            std::this_thread::sleep_for(2ms);
        }
        id = 0;
        const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        if (code > 0) MESSAGE("process " << rank << ": " << read_file(log_of(rank)));
        return code;
    }

  private:
    std::filesystem::path log_of(int rank) const { return folder_.path() / std::to_string(rank); }
    test::TemporaryFolder folder_;
    std::vector<pid_t> ids_;
};

Launch launch_of(const std::map<std::string, std::string>& variables) {
    return find_launch([&](const char* name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        if (found == variables.end()) return std::nullopt;
        return found->second;
    });
}

std::string complaint(const std::map<std::string, std::string>& variables) {
    return sentence_of(Fault::usage, [&] { launch_of(variables); });
}

/// Whether a launch is rank of size, local, host:port, by the starter.
bool is(const Launch& l, int rank, int size, int local, const std::string& address, int port,
        const std::string& starter) {
    return l.rank == rank && l.size == size && l.local_rank == local && l.address == address &&
           l.port == port && l.starter == starter;
}

/// Element i of process `rank`: its bits differ from process to process.
at::Tensor part(int rank, std::int64_t n, at::ScalarType type) {
    return (at::arange(n, at::TensorOptions(at::kDouble)) * 0.37 + rank * 1.1 - 3).to(type);
}

void check_exchanges(Processes& processes, const c10::Device& device) {
    const int rank = processes.rank(), size = processes.size();
    // Sums, also of several types, of what is no block in memory, of leaves and of nothing
    for (const bool average : {false, true}) {
        at::Tensor turned = part(rank, 12, at::kFloat).view({3, 4}).t().to(device);
        at::Tensor leaf = part(rank, 5, at::kFloat).to(device).requires_grad_(true);
        at::Tensor wide = part(rank, 7, at::kDouble).to(device);
        at::Tensor half = at::full({2}, rank + 0.5, at::kBFloat16).to(device);
        at::Tensor none = at::zeros({0, 3}).to(device);
        at::Tensor sum_f = at::zeros({12}), sum_leaf = at::zeros({5}),
                   sum_d = at::zeros({7}, at::TensorOptions(at::kDouble));
        double sum_h = 0;
        for (int r = 0; r < size; ++r) {
            sum_f += part(r, 12, at::kFloat);
            sum_leaf += part(r, 5, at::kFloat);
            sum_d += part(r, 7, at::kDouble);
            sum_h += r + 0.5;
        }
        const double by = average ? size : 1;
        if (average) {
            processes.average_({turned, wide, leaf, none, half});
        } else {
            processes.sum_({turned, wide, leaf, none, half});
        }
        // Three float32 numbers may add up in another order
        const auto near = [](const at::Tensor& a, const at::Tensor& b) {
            return (a.detach().to(at::kCPU) - b).abs().max().item<double>() < 2e-6;
        };
        CHECK(near(turned, (sum_f / by).view({3, 4}).t()));
        CHECK(near(leaf, sum_leaf / by));
        CHECK(near(wide, sum_d / by));
        CHECK(half[0].item<double>() == at::full({}, sum_h / by).to(at::kBFloat16).item<double>());
        CHECK(half.sizes() == at::IntArrayRef({2}));
        CHECK(leaf.requires_grad());
    }
    at::Tensor count = at::full({3}, (1LL << 40) + rank, at::kLong).to(device);
    at::Tensor small = at::full({}, rank == 0 ? 100 : 27, at::kInt).to(device);
    processes.sum_({count, small});
    CHECK(count[2].item<std::int64_t>() == size * (1LL << 40) + size * (size - 1) / 2);
    CHECK(small.item<int>() == 100 + 27 * (size - 1));

    // The same bits in every process: the sum's own sum of bits is n times any one
    at::Tensor odd = at::arange(100003, at::TensorOptions(at::kFloat)).sin() * (rank + 0.3);
    processes.sum_(odd);
    at::Tensor first = odd.clone();
    processes.broadcast_(first);
    CHECK(first.equal(odd));

    // What one has, in every type, bit for bit
    for (int root = 0; root < size; ++root) {
        at::Tensor a = part(rank, 9, at::kFloat).to(device),
                   b = part(rank, 4, at::kHalf).to(device),
                   c = part(rank * 7, 6, at::kLong).view({2, 3}).t().to(device);
        a[0] = std::numeric_limits<float>::quiet_NaN();
        processes.broadcast_({a, b, at::zeros({0}), c}, root);
        CHECK(a.slice(0, 1).cpu().equal(part(root, 9, at::kFloat).slice(0, 1)));
        CHECK(a[0].isnan().item<bool>());
        CHECK(b.cpu().equal(part(root, 4, at::kHalf)));
        CHECK(c.cpu().equal(part(root * 7, 6, at::kLong).view({2, 3}).t()));
    }

    CHECK(!processes.any(false));
    CHECK(processes.any(rank == size - 1));
    CHECK(processes.any(true));
    processes.barrier();
}

/// More than one bucket.
void check_large(Processes& processes) {
    const std::int64_t n = 9 << 20;  // twice 36 MiB
    at::Tensor a = at::full({n}, processes.rank() + 1.0), b = a.clone(), c = at::ones({3});
    processes.sum_({a, b, c});
    const double sum = processes.size() * (processes.size() + 1) / 2.0;
    CHECK(a.equal(at::full({n}, sum)));
    CHECK(b.equal(a));
    CHECK(c.equal(at::full({3}, 1.0 * processes.size())));
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("find_launch: nothing set, or one process only, is one process") {
        CHECK(is(launch_of({}), 0, 1, 0, "", 0, ""));
        CHECK(is(launch_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}}), 0, 1, 0, "", 0, ""));
        CHECK(launch_of({{"SLURM_PROCID", "0"}, {"SLURM_JOB_ID", "7"}}).size == 1);  // sbatch
        CHECK(launch_of({{"SLURM_NTASKS", "4"}, {"SLURM_JOB_ID", "7"}}).size == 1);  // salloc
    }

    TEST_CASE("find_launch: torchrun, srun, Open MPI's mpirun, MPICH's") {
        CHECK(is(launch_of({{"RANK", "5"},
                            {"WORLD_SIZE", "8"},
                            {"LOCAL_RANK", "1"},
                            {"MASTER_ADDR", "alpha"},
                            {"MASTER_PORT", "1234"},
                            {"SLURM_PROCID", "1"},
                            {"SLURM_NTASKS", "2"}}),
                 5, 8, 1, "alpha", 1234, "torchrun"));
        CHECK(is(launch_of({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "localhost"}}), 1,
                 2, 1, "localhost", 29500, "torchrun"));
        std::map<std::string, std::string> slurm{
            {"SLURM_PROCID", "5"},         {"SLURM_NTASKS", "8"},
            {"SLURM_LOCALID", "1"},        {"SLURM_NODELIST", "gpu[03-04,7],x"},
            {"SLURM_JOB_ID", "123456789"}, {"SLURM_NNODES", "2"}};
        CHECK(is(launch_of(slurm), 5, 8, 1, "gpu03", 26789, "Slurm"));
        slurm["MASTER_PORT"] = "99";
        slurm["MASTER_ADDR"] = "beta";
        CHECK(is(launch_of(slurm), 5, 8, 1, "beta", 99, "Slurm"));
        slurm["SLURM_STEP_NUM_TASKS"] = "6";  // srun -n 6 within a job of 8
        CHECK(launch_of(slurm).size == 6);
        slurm.erase("MASTER_ADDR");
        slurm["SLURM_STEP_NUM_NODES"] = "1";
        CHECK(launch_of(slurm).address == "127.0.0.1");

        std::map<std::string, std::string> mpi{{"OMPI_COMM_WORLD_RANK", "3"},
                                               {"OMPI_COMM_WORLD_SIZE", "4"},
                                               {"OMPI_COMM_WORLD_LOCAL_RANK", "3"},
                                               {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}};
        CHECK(is(launch_of(mpi), 3, 4, 3, "127.0.0.1", 29500, "mpirun"));
        mpi["OMPI_COMM_WORLD_LOCAL_SIZE"] = "2";  // two machines, and nobody says which
        CHECK(contains(complaint(mpi), "MASTER_ADDR is missing"));
        mpi.insert(slurm.begin(), slurm.end());  // within a Slurm job: its list of hosts
        mpi.erase("SLURM_STEP_NUM_NODES");
        CHECK(is(launch_of(mpi), 3, 4, 3, "gpu03", 99, "mpirun"));

        std::map<std::string, std::string> pmi{{"PMI_RANK", "1"},
                                               {"PMI_SIZE", "2"},
                                               {"MPI_LOCALRANKID", "1"},
                                               {"MPI_LOCALNRANKS", "2"}};
        CHECK(is(launch_of(pmi), 1, 2, 1, "127.0.0.1", 29500, "mpirun"));
        // srun with PMI-2
        CHECK(is(launch_of({{"PMI_RANK", "5"},
                            {"PMI_SIZE", "8"},
                            {"SLURM_PROCID", "5"},
                            {"SLURM_NTASKS", "8"},
                            {"SLURM_LOCALID", "2"},
                            {"SLURM_NODELIST", "n[1-2]"},
                            {"SLURM_JOB_ID", "42"}}),
                 5, 8, 2, "n1", 20042, "Slurm"));
    }

    TEST_CASE("find_launch: what is missing or wrong is named") {
        CHECK(contains(complaint({{"RANK", "0"}}), "RANK and WORLD_SIZE only RANK is set"));
        CHECK(contains(complaint({{"WORLD_SIZE", "2"}}), "only WORLD_SIZE is set"));
        CHECK(contains(complaint({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), "process 2 of 2"));
        CHECK(contains(complaint({{"RANK", "one"}, {"WORLD_SIZE", "2"}}), "RANK is \"one\""));
        CHECK(contains(complaint({{"RANK", "1"}, {"WORLD_SIZE", "0"}}), "WORLD_SIZE is \"0\""));
        CHECK(contains(complaint({{"RANK", "1"}, {"WORLD_SIZE", "2"}}), "MASTER_ADDR is missing"));
        CHECK(contains(complaint({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "alpha"}}),
                       "LOCAL_RANK"));
        CHECK(contains(complaint({{"RANK", "1"},
                                  {"WORLD_SIZE", "2"},
                                  {"MASTER_ADDR", "localhost"},
                                  {"MASTER_PORT", "65536"}}),
                       "65536"));
    }

    TEST_CASE("first_host: Slurm's lists") {
        CHECK(first_host("node") == "node");
        CHECK(first_host("node1,node2") == "node1");
        CHECK(first_host("node[003-010,12],other5") == "node003");
        CHECK(first_host("node[12]") == "node12");
        CHECK(first_host("a-b[7,9].cluster,c") == "a-b7.cluster");
        CHECK(first_host("rack[1-4]n[2,3]") == "rack1n2");
    }

    TEST_CASE("Processes: one alone needs no network") {
        const auto processes = Processes::open({}, at::kCPU);
        CHECK(processes->size() == 1);
        CHECK(processes->is_first());
        check_exchanges(*processes, at::kCPU);
        CHECK_THROWS_AS(processes->average_(at::ones({2}, at::TensorOptions(at::kLong))), Error);
        CHECK_THROWS_AS(processes->sum_(at::ones({2}, at::TensorOptions(at::kBool))), Error);
        CHECK_THROWS_AS(processes->broadcast_(at::ones({2}), 1), Error);
    }

    TEST_CASE("Processes: who does not come is named") {
        Launch launch{.rank = 0,
                      .size = 3,
                      .local_rank = 0,
                      .address = "127.0.0.1",
                      .port = free_port(),
                      .starter = "torchrun"};
        CHECK(
            contains(sentence_of(Fault::device, [&] { Processes::open(launch, at::kCPU, 300ms); }),
                     "these did not come within 0.3 s: 1, 2; start all of them"));
        launch.rank = 1;
        launch.port = free_port();
        const std::string text =
            sentence_of(Fault::device, [&] { Processes::open(launch, at::kCPU, 300ms); });
        CHECK(contains(text, "process 1 of 3 cannot reach process 0 at 127.0.0.1:" +
                                 std::to_string(launch.port) + " within 0.3 s"));
        const HeldPort taken;
        launch.rank = 0;
        launch.port = taken.port();
        CHECK(
            contains(sentence_of(Fault::device, [&] { Processes::open(launch, at::kCPU, 300ms); }),
                     "set MASTER_PORT to a free port"));
    }

    TEST_CASE(child_case * doctest::skip()) {
        const auto mode = environment_variable("ULTRASR_TEST_PROCESSES");
        if (!mode) return;
        if (*mode == "exchange") {
            for (const c10::Device& device : test::devices()) {
                Launch launch = find_launch();
                if (device.is_cuda()) launch.port += 1;
                const auto processes = Processes::open(launch, device, 60s);
                CHECK(processes->size() == launch.size);
                check_exchanges(*processes, device);
                if (device.is_cpu() && launch.size == 2) check_large(*processes);
            }
        } else if (*mode == "death") {
            const auto processes = Processes::open(find_launch(), at::kCPU);
            if (processes->rank() == 1) ::kill(::getpid(), SIGKILL);
            const auto start = Clock::now();
            const at::Tensor values = at::ones({1000});
            CHECK(contains(sentence_of(Fault::device, [&] { processes->sum_(values); }),
                           "process 0 of 2 lost another one while adding up tensors: "));
            CHECK(Clock::now() - start < 5s);
            CHECK(contains(sentence_of(Fault::device, [&] { processes->any(false); }),
                           "start them again"));
        } else if (*mode == "hang") {
            const auto processes = Processes::open(find_launch(), at::kCPU, 1s);
            if (processes->rank() == 1) {
                std::this_thread::sleep_for(60s);  // killed before
            }
            const auto start = Clock::now();
            CHECK(contains(sentence_of(Fault::device, [&] { processes->barrier(); }),
                           "process 0 of 2 waited 1 s for the others while agreeing"));
            CHECK(Clock::now() - start < 5s);
        } else {
            FAIL("unknown mode");
        }
    }
}

TEST_SUITE("property") {
    TEST_CASE("Processes: sums, averages, broadcasts and decisions of two and of three") {
        for (const int count : {2, 3}) {
            Children children("exchange", count);
            for (int rank = 0; rank < count; ++rank) CHECK(children.wait(rank) == 0);
        }
    }

    TEST_CASE("Processes: one that dies is an error in the others within seconds") {
        Children children("death", 2);
        CHECK(children.wait(0) == 0);
        CHECK(children.wait(1) == -SIGKILL);
    }

    TEST_CASE("Processes: one that hangs is an error in the others after the timeout") {
        Children children("hang", 2);
        CHECK(children.wait(0) == 0);
    }
}
