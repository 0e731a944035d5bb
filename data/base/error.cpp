#include "data/base/error.h"

#include <new>

namespace ultrasr {

Error::Error(Fault fault, std::string sentence, std::source_location where)
    : fault_(fault),
      sentence_(std::move(sentence)),
      where_(where),
      text_(fmt::format("{} [{}:{}]", sentence_, where_.file_name(), where_.line())) {}

Error Error::with_context(std::string_view context) const {
    return {fault_, fmt::format("{}: {}", context, sentence_), where_};
}

Error current_error(std::source_location where) {
    try {
        throw;
    } catch (const Error& error) {
        return error;
    } catch (const std::bad_alloc&) {
        return {Fault::device, "out of memory", where};
    } catch (const std::exception& error) {
        return {Fault::internal, error.what(), where};
    }
}

}  // namespace ultrasr
