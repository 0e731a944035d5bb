// Names of the types that flow through the house, so that headers need not open them.
#pragma once

namespace at {
class Tensor;
}

namespace ultrasr {
class Image;
class ImageBatch;
class Progress;
}  // namespace ultrasr
