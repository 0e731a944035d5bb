// Several processes that train one network: who is who, sums of gradients, common decisions.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace ultrasr {

/// This process among those that were started together.
struct Launch {
    int rank = 0;  ///< [0, size)
    int size = 1;
    int local_rank = 0;   ///< among those of this machine: the number of the GPU to use
    std::string address;  ///< of rank 0's machine; empty for one process
    int port = 0;         ///< on which rank 0 listens
    std::string starter;  ///< "torchrun", "Slurm", "mpirun", for messages
};

/// The value of an environment variable.
using Variable = std::function<std::optional<std::string>(const char* name)>;
std::optional<std::string> environment_variable(const char* name);

/// What the starter's variables say, the first of
///     RANK, WORLD_SIZE, LOCAL_RANK                                        torchrun, or set by hand
///     OMPI_COMM_WORLD_RANK, .._SIZE, .._LOCAL_RANK                        Open MPI's mpirun
///     PMI_RANK, PMI_SIZE, MPI_LOCALRANKID                                 MPICH's and Intel's
///     SLURM_PROCID, SLURM_STEP_NUM_TASKS or SLURM_NTASKS, SLURM_LOCALID   srun
/// with MASTER_ADDR and MASTER_PORT, for which there are substitutes: where all processes run on
/// one machine its loopback, else the first host of SLURM_STEP_NODELIST or SLURM_NODELIST; a port
/// that follows from SLURM_JOB_ID, else 29500. mpirun under Slurm leaves srun's variables to its
/// daemons' numbers, hence the order. Nothing set, or a size of 1: one process.
///
/// throws  Error(usage) that names the variable that is missing or makes no sense
Launch find_launch(const Variable& variable = environment_variable);

/// "node03" of "node[03-07,9],other1"; "rack1n2" of "rack[1-4]n[2,3]".
std::string first_host(std::string_view node_list);

/// Without network where there is one process: everything below then does at once what it says.
///
/// All processes make the same calls in the same order, with tensors of the same sizes. When one of
/// them has ended the others get Error(device) within a second or so; when one does not answer,
/// after the timeout. All of them have to be started again then.
class Processes {
  public:
    static constexpr std::chrono::milliseconds default_timeout = std::chrono::minutes(10);

    /// Joins the others. Tensors in host memory, and decisions, travel over gloo. Those in a GPU's
    /// travel over NCCL, if every process has it (libultrasr_nccl.so, beside the programs' folder
    /// in lib/) and a GPU of its own, else over gloo through host memory, which one log line says.
    ///
    /// device   opened; where the tensors will be
    /// timeout  how long the others may take to come, and to answer later
    /// throws   Error(device) when rank 0 cannot be reached, its port is taken, or others do not
    ///          come: with their ranks
    static std::unique_ptr<Processes> open(const Launch& launch, const c10::Device& device,
                                           std::chrono::milliseconds timeout = default_timeout);

    ~Processes();
    Processes(const Processes&) = delete;
    Processes& operator=(const Processes&) = delete;

    int rank() const { return launch_.rank; }
    int size() const { return launch_.size; }
    int local_rank() const { return launch_.local_rank; }
    /// The one that writes files and shows progress.
    bool is_first() const { return launch_.rank == 0; }

    /// Sum over all processes, in place, in each the same bits. Small tensors travel together;
    /// bfloat16 and float16 are summed in float32, whole numbers as 64 bit.
    ///
    /// tensors  floating or whole numbers, of one device
    void sum_(at::ArrayRef<at::Tensor> tensors);

    /// The same divided by size(); floating-point tensors only.
    void average_(at::ArrayRef<at::Tensor> tensors);

    /// The bits of process `root` for all, in place. Any types, one device.
    void broadcast_(at::ArrayRef<at::Tensor> tensors, int root = 0);

    /// Whether it is true in one of them.
    bool any(bool condition);

    /// Returns when all have come here.
    void barrier() { any(false); }

  private:
    struct Network;
    Processes(Launch launch, std::unique_ptr<Network> network);
    void reduce_(at::ArrayRef<at::Tensor> tensors, bool average);

    Launch launch_;
    std::unique_ptr<Network> network_;
};

}  // namespace ultrasr
