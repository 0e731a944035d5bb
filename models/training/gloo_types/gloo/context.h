// LibTorch's c10d/ProcessGroupGloo.hpp includes headers of the library gloo, which is inside
// LibTorch but whose headers do not come with it. These folders hold, under gloo's names,
// declarations of the few types which that header mentions. It holds them by pointer only, so that
// the layout of what we make does not depend on them, and we call none of their functions. Only
// models/training/ processes.cpp sees them.
#pragma once
#include <chrono>

namespace gloo {

class Context {
  public:
    void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
