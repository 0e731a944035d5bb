#include "data/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <system_error>

#include "data/base/error.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

/// A file descriptor that closes itself.
class Descriptor {
  public:
    Descriptor(const fs::path& path, int flags, mode_t mode = 0)
        : value_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
    ~Descriptor() {
        if (value_ >= 0) ::close(value_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return value_; }
    bool ok() const { return value_ >= 0; }

  private:
    int value_;
};

std::string reason(int code) { return std::generic_category().message(code); }

[[noreturn]] void fail_to_write(const fs::path& path, int code) {
    fail(Fault::storage, "cannot write {}: {}; free space or choose another folder", path.string(),
         reason(code));
}

/// errno, or 0.
int write_all(int descriptor, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(descriptor, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return 0;
}

/// Calls `take` with each piece of the file.
template <class Take>
void read_pieces(const fs::path& path, Take&& take) {
    const Descriptor file(path, O_RDONLY);
    require(file.ok(), "cannot read {}: {}", path.string(), reason(errno));
    struct stat status {};
    require(::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode),
            "cannot read {}: it is not a regular file", path.string());
    std::string piece(std::size_t{1} << 20, '\0');
    for (;;) {
        const ssize_t n = ::read(file.get(), piece.data(), piece.size());
        if (n < 0 && errno == EINTR) continue;
        require(n >= 0, "cannot read {}: {}", path.string(), reason(errno));
        if (n == 0) return;
        take(std::string_view(piece.data(), static_cast<std::size_t>(n)));
    }
}

/// An incremental SHA-256.
class Digest {
  public:
    Digest() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
        if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) {
            fail(Fault::internal, "the SHA-256 of libcrypto does not start");
        }
    }
    void add(std::string_view bytes) {
        EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size());
    }
    std::string hex() {
        std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
        unsigned size = 0;
        EVP_DigestFinal_ex(context_.get(), bytes.data(), &size);
        std::string text;
        for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
        return text;
    }

  private:
    std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string read_file(const fs::path& path) {
    std::string bytes;
    read_pieces(path, [&](std::string_view piece) { bytes += piece; });
    return bytes;
}

void make_folders(const fs::path& path) {
    std::error_code code;
    fs::create_directories(path, code);
    if (code) {
        fail(Fault::storage, "cannot make the folder {}: {}; choose another", path.string(),
             code.message());
    }
}

OutputFile::OutputFile(fs::path path) : path_(std::move(path)) {
    const fs::path folder = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
    make_folders(folder);
    static std::atomic<unsigned> counter{0};
    temporary_ =
        folder / fmt::format(".{}.{}.{}.tmp", path_.filename().string(), ::getpid(), counter++);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail_to_write(path_, errno);
}

OutputFile::~OutputFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::append(std::string_view bytes) {
    if (const int code = write_all(descriptor_, bytes); code != 0) fail_to_write(path_, code);
}

void OutputFile::finish() {
    if (::fsync(descriptor_) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
        fail_to_write(path_, errno);
    }
    temporary_.clear();
    const fs::path folder = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
    const Descriptor holder(folder, O_RDONLY | O_DIRECTORY);  // the new name survives a crash too
    if (holder.ok()) ::fsync(holder.get());
}

void write_file(const fs::path& path, std::string_view bytes) {
    OutputFile file(path);
    file.append(bytes);
    file.finish();
}

TemporaryFile::TemporaryFile(const fs::path& beside) {
    static std::atomic<unsigned> counter{0};
    path_ = beside.parent_path() /
            fmt::format(".{}.{}.{}.tmp", beside.filename().string(), ::getpid(), counter++);
}

TemporaryFile::~TemporaryFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
}

int TemporaryFile::become(const fs::path& path) {
    const auto sync = [](const fs::path& what) {
        const int descriptor = ::open(what.c_str(), O_RDONLY | O_CLOEXEC);
        if (descriptor < 0) return errno;
        const int code = ::fsync(descriptor) == 0 ? 0 : errno;
        ::close(descriptor);
        return code;
    };
    int code = sync(path_);
    if (code == 0 && ::rename(path_.c_str(), path.c_str()) != 0) code = errno;
    if (code != 0) return code;
    path_.clear();
    return sync(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

void remove_stale_temporaries(const fs::path& folder) {
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(folder, code)) {
        // .NAME.PID.COUNT.tmp
        const std::string name = entry.path().filename().string();
        if (!name.starts_with(".") || !name.ends_with(".tmp")) continue;
        const std::size_t count = name.rfind('.', name.size() - 5);
        if (count == std::string::npos || count == 0) continue;
        const std::size_t pid = name.rfind('.', count - 1);
        if (pid == std::string::npos) continue;
        const std::string digits = name.substr(pid + 1, count - pid - 1);
        if (digits.empty() || digits.size() > 9 ||
            digits.find_first_not_of("0123456789") != std::string::npos) {
            continue;
        }
        const int process = std::stoi(digits);
        if (process != ::getpid() && ::kill(process, 0) != 0 && errno == ESRCH) {
            fs::remove(entry.path(), code);
        }
    }
}

std::string sha256(std::string_view bytes) {
    Digest digest;
    digest.add(bytes);
    return digest.hex();
}

std::string sha256_of_file(const fs::path& path) {
    Digest digest;
    read_pieces(path, [&](std::string_view piece) { digest.add(piece); });
    return digest.hex();
}

LineLog::LineLog(const fs::path& path) : path_(path), descriptor_(-1) {
    if (path.has_parent_path()) make_folders(path.parent_path());
    if (fs::exists(path)) {
        // Cut a torn last line
        const std::string text = read_file(path);
        const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
        if (whole != text.size() && ::truncate(path.c_str(), static_cast<off_t>(whole)) != 0) {
            fail_to_write(path, errno);
        }
    }
    descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail_to_write(path, errno);
}

LineLog::~LineLog() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

void LineLog::append(std::string_view line) {
    const off_t before = ::lseek(descriptor_, 0, SEEK_END);
    int code = write_all(descriptor_, std::string(line) + "\n");
    const auto now = std::chrono::steady_clock::now();
    if (code == 0 && now - synced_ > std::chrono::seconds(1)) {
        synced_ = now;
        if (::fdatasync(descriptor_) != 0) code = errno;
    }
    if (code != 0) {
        if (::ftruncate(descriptor_, before) != 0) code = errno;
        fail_to_write(path_, code);
    }
}

FolderLock::FolderLock(const fs::path& folder, const std::string& name) : descriptor_(-1) {
    make_folders(folder);
    const fs::path file = folder / name;
    descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail_to_write(file, errno);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
        ::close(descriptor_);
        fail(Fault::storage, "another run is writing to {}; wait for it or choose another folder",
             folder.string());
    }
}

FolderLock::~FolderLock() { ::close(descriptor_); }

}  // namespace ultrasr
