// Split work over threads that live as long as the call.
#pragma once

#include <cstddef>
#include <functional>

namespace bowerbird {

// Run task(0) ... task(count - 1) on at most num_threads threads, the caller's among them; each task once.
// The threads are joined before the return: none spins, and none is lost by a fork. The first exception of a task is
// rethrown after the others have stopped. Where the system refuses a thread, fewer do the work.
void parallel_for(std::size_t count, std::size_t num_threads, const std::function<void(std::size_t)>& task);

}  // namespace bowerbird
